"""The kinds of input that `malformed_inputs.py` damages: how a valid one is made, and which command is to read it."""

import dataclasses
import json
import pathlib
import random
from collections.abc import Callable
from typing import NamedTuple

from t5like.config import field_paths, load_config_file
from t5like.convert import Convert
from t5like.evaluate import Evaluate
from t5like.finetune import Finetune
from t5like.generate import Generate
from t5like.ngram import Ngram
from t5like.pretrain import Pretrain
from t5like.suite_config import Benchmark
from tests.data.sources import writers
from tests.reliability import valid_inputs as valid
from tests.reliability.damages import WORDS, damage_file, damage_one, misspelt
from tests.tasks import super_glue_rows


class Case(NamedTuple):
    """A malformed input.

    Attributes:
      argv: the command that is given it.
      what: what is wrong with it, for people.
      names: of which a sentence about it has to have one.
    """

    argv: list[str]
    what: str
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of input.

    Attributes:
      make: writes a valid one into a folder, once.
      case: (a copy of that folder, where to write, source of chance) -> the copy damaged, and the command.
      codes: with which it may be refused.
      may_write: patterns of what may be written even so.
    """

    make: Callable[[pathlib.Path], None]
    case: Callable[[pathlib.Path, pathlib.Path, random.Random], Case]
    codes: frozenset[int] = frozenset({2})
    may_write: tuple[str, ...] = ()


GIVEN, DATA, CHECKPOINT = frozenset({2}), frozenset({2, 3}), frozenset({5})


def files(
    make: Callable[[pathlib.Path], None],
    argv: Callable[[pathlib.Path, pathlib.Path, random.Random, str], list[str]],
    *,
    codes: frozenset[int] = GIVEN,
    among: tuple[str, ...] = ("**/*",),
    names: tuple[str, ...] = (),
    may_write: tuple[str, ...] = (),
) -> Kind:
    """Returns a kind of which one file is damaged; `argv` is told which."""

    def case(folder: pathlib.Path, out: pathlib.Path, rng: random.Random) -> Case:
        name, way = damage_one(folder, rng, among)
        words = argv(folder, out, rng, name)
        return Case(words, f"{name}: {way}", (str(folder), pathlib.PurePath(name).name, *names))

    return Kind(make=make, case=case, codes=codes, may_write=may_write)


def ngram(
    folder: pathlib.Path, data: pathlib.Path | str, vocabulary: pathlib.Path | str = "bytes"
) -> list[str]:
    """Returns the command that reads text soonest."""
    held_out = ["--validation_data", str(folder.parent / "text.txt")]
    return ["ngram", "--data", str(data), *held_out, "--vocabulary", str(vocabulary), "--order", "2"]


def source(name: str) -> Kind:
    """Returns the kind of a data file, or folder, of a name of tests/data/sources/writers.py."""

    def make(folder: pathlib.Path) -> None:
        writers.WRITERS[name](folder / name, valid.TEXTS)

    return files(make, lambda folder, out, rng, damaged: ngram(folder, folder / name), codes=DATA)


def sources(*names: str) -> Kind:
    """Returns the kind of several such, of which one is read."""

    def make(folder: pathlib.Path) -> None:
        for name in names:
            writers.WRITERS[name](folder / name, valid.TEXTS)

    return files(make, lambda folder, out, rng, damaged: ngram(folder, folder / damaged), codes=DATA)


def _compressed_text(folder: pathlib.Path) -> None:
    for suffix in (".gz", ".zst", ".bz2", ".xz"):
        writers.write_bytes(folder / f"text.txt{suffix}", "\n".join(valid.TEXTS).encode())


def _tfds_argv(folder: pathlib.Path, out: pathlib.Path, rng: random.Random, damaged: str) -> list[str]:
    from tensorflow_datasets.core.utils import file_utils

    file_utils.clear_registered_data_dirs()
    file_utils.add_data_dir(str(folder))
    return ngram(folder, "tfds:stories")


def _vocabulary_argv(folder: pathlib.Path, out: pathlib.Path, rng: random.Random, damaged: str) -> list[str]:
    return ngram(folder, folder.parent / "text.txt", folder / pathlib.PurePath(damaged).parts[0])


def _store(folder: pathlib.Path) -> None:
    from t5like.cli import dispatch

    valid.write_config(folder)
    dispatch(["tokenize", *_run_of(folder), "--token_store", str(folder / "store"), "--num_processes", "1"])


def _run_of(folder: pathlib.Path) -> list[str]:
    return [str(folder / "tiny.py"), "--data", str(folder / "text")]


def _store_argv(folder: pathlib.Path, out: pathlib.Path, rng: random.Random, damaged: str) -> list[str]:
    store = ["--token_store", str(folder / "store")]
    if rng.random() < 0.5:
        return ["tokenize", *_run_of(folder), *store, "--num_processes", "1"]
    return ["batch", *_run_of(folder), *store, "--step", "1", "--to", str(out / "batch.npz")]


# --- command lines and configs

_COMMANDS = (
    *(
        "pretrain",
        "tokenize",
        "plan",
        "finetune",
        "benchmark",
        "evaluate",
        "generate",
        "ngram",
        "batch",
        "convert",
    ),
)
_CONFIGS = {
    "finetune": Finetune(),
    "benchmark": Benchmark(),
    "evaluate": Evaluate(),
    "generate": Generate(),
    "ngram": Ngram(),
    "convert": Convert(),
}


def command_line(folder: pathlib.Path, out: pathlib.Path, rng: random.Random) -> Case:
    """Returns words out of place, commands misspelt, options without values."""
    config = str(folder / "tiny.py")
    command = rng.choice(_COMMANDS)
    lines = (
        [misspelt(command, rng)],
        [rng.choice(WORDS)],
        [command],
        [command, rng.choice(WORDS), "--print_config"],
        [command, config, rng.choice(WORDS), "--print_config"],
        [command, config, f"--{misspelt('workdir', rng)}", str(out / "run")],
        [command, config, "--workdir"],
        [command, "--workdir", rng.choice(WORDS)],
        [command, config, "--print_config=x"],
        [command, misspelt(config, rng), "--print_config"],
        [command, f"--{rng.choice(WORDS)}", rng.choice(WORDS)],
        [
            "benchmark",
            rng.choice(("glue", "super_glue", "check", "glu")),
            rng.choice(WORDS),
            rng.choice(WORDS),
        ],
        ["batch", config, "--step", rng.choice(WORDS)],
        ["batch", config, "--step", "0", "--rows", rng.choice(WORDS), "--data", str(folder / "text")],
        ["batch", "--workdir", rng.choice(WORDS), "--step", "0"],
        ["pretrain", config, "--workdir", config, "--data", str(folder / "text")],
        [
            "pretrain",
            config,
            "--workdir",
            rng.choice(("", "a\0b", "a" * 5000, f"{config}/x", "/proc/x")),
            "--data",
            str(folder / "text"),
        ],
        ["convert", "--from", rng.choice(WORDS), "--to", str(out / "to")],
        ["generate", "--init", rng.choice(WORDS), "--text", "a"],
        ["evaluate", "--init", rng.choice(WORDS)],
        ["finetune", "--task", rng.choice(WORDS), "--init", rng.choice(WORDS), "--workdir", str(out / "run")],
        ["ngram", "--data", rng.choice(WORDS)],
        ["ngram", "--data", str(folder / "text"), "--vocabulary", rng.choice(WORDS)],
        ["ngram", "--data", str(folder / "text"), "--workdir", config],
        ["plan", config, "--topology", rng.choice(WORDS)],
    )
    argv = rng.choice(lines)
    return Case(argv, "", ("",))


def option(folder: pathlib.Path, out: pathlib.Path, rng: random.Random) -> Case:
    """Returns an option misspelt or with nonsense as its value, which is resolved and no more."""
    command = rng.choice(_COMMANDS)
    config = _CONFIGS.get(command) or load_config_file(folder / "tiny.py", Pretrain)
    name = rng.choice(sorted(field_paths(config)))
    start = ["benchmark", "glue"] if command == "benchmark" else [command]
    start += [] if command in _CONFIGS else [str(folder / "tiny.py")]
    start += ["--step", "0"] if command == "batch" else []
    given, values = name, [rng.choice(WORDS)]
    match rng.randrange(6):
        case 0:
            given = misspelt(name, rng)
        case 1:
            given = name.rpartition(".")[2] + rng.choice(("", ".x", "..", "."))
        case 2:
            values += [rng.choice(WORDS)]
        case 3:
            values = []
    last = name.rpartition(".")[2]
    return Case(
        [*start, f"--{given}", *values, "--print_config"], "", (last, given, *(v for v in values if v))
    )


def option_of_a_run(folder: pathlib.Path, out: pathlib.Path, rng: random.Random) -> Case:
    """Returns a run of two steps with one of its fields nonsense."""
    config = load_config_file(folder / "tiny.py", Pretrain)
    name = rng.choice([path for path in sorted(field_paths(config)) if path != "num_steps"])
    value = rng.choice(WORDS)
    argv = ["pretrain", *_run_of(folder), "--workdir", str(out / "run"), f"--{name}={value}"]
    return Case(argv, "", (name.rpartition(".")[2], name.partition(".")[0], *([value] if value else [])))


_BROKEN_CONFIGS = (
    "",
    "def get_config(:\n    pass\n",
    "def get_config():\n    raise ValueError('no\\nconfig')\n",
    "import sys\nsys.exit(3)\n",
    "raise SystemExit\n",
    "raise RecursionError('deep')\n",
    "import not_a_module\n",
    "def get_config():\n    return 3\n",
    "def get_config():\n    return None\n",
    "def get_config(x):\n    return x\n",
    "get_config = 3\n",
    "def get_config():\n    return get_config()\n",
    "class get_config:\n    pass\n",
    "async def get_config():\n    pass\n",
    "def get_config():\n    yield 3\n",
    "1/0\n",
    "x = '\\ud800'\ndef get_config():\n    raise ValueError(x)\n",
    "assert False\n",
    "from t5like.finetune import Finetune\ndef get_config():\n    return Finetune()\n",
    "from t5like.pretrain import Pretrain\ndef get_config():\n    return Pretrain\n",
    "from t5like.pretrain import Pretrain\ndef get_config():\n    return Pretrain()\n",
)
_PARTS = (
    *(
        "embed_dim=16",
        "num_heads=2",
        "head_dim=8",
        "num_encoder_layers=1",
        "scans_layers=False",
        "inputs_length=24",
    ),
    *('vocabulary="bytes"', "peak=1e-2", "num_steps=2", "batch_size=8", "max_eval_rows=8"),
)
_PYTHON_VALUES = (
    *("None", "'x'", "-1", "0", "1.5", "True", "[]", "{}", "object()", "lambda: 3", "10**30", "float('nan')"),
    *(
        "float('inf')",
        "(1, 2)",
        "b'x'",
        "print",
        "int",
        "3j",
        "...",
        "'\\ud800'",
        "NotImplemented",
        "range(3)",
    ),
    *("__import__('numpy').int32(3)", "__import__('numpy').zeros(3)", "Pretrain", "Constant(peak=1.0)"),
)


def config_file(folder: pathlib.Path, out: pathlib.Path, rng: random.Random) -> Case:
    """Returns a config file that does not parse, raises, gives something else, or holds a wrong value."""
    path = folder / "tiny.py"
    match rng.randrange(3):
        case 0:
            what = rng.choice(_BROKEN_CONFIGS)
            path.write_text(what)
        case 1:
            part = rng.choice(_PARTS)
            what = f"{part.partition('=')[0]}={rng.choice(_PYTHON_VALUES)}"
            path.write_text(valid.CONFIG.replace(part, what))
        case _:
            what = damage_file(path, rng)
    command = rng.choice((["pretrain"], ["batch", "--step", "0"], ["tokenize"]))
    return Case([command[0], str(path), *command[1:], "--print_config"], what, (str(path),))


# --- tasks

_TASK_OF_FOLDER = {
    "RTE": "rte",
    "SST-2": "sst2",
    "CoLA": "cola",
    "STS-B": "stsb",
    **{folder: name for name, folder in super_glue_rows.FOLDERS.items() if name != "wsc_referent"},
}


def evaluate(init: str, task: str, *more: str) -> list[str]:
    """Returns the command that reads a task's examples soonest."""
    return ["evaluate", "--init", init, "--task", task, "--max_examples", "2", "--batch_size", "2", *more]


def _suite_argv(suite: str) -> Callable[[pathlib.Path, pathlib.Path, random.Random, str], list[str]]:
    def argv(folder: pathlib.Path, out: pathlib.Path, rng: random.Random, damaged: str) -> list[str]:
        name = _TASK_OF_FOLDER[pathlib.PurePath(damaged).parts[0]]
        split = {"axb": "test", "axg": "test"}.get(name) or ("train" if "train" in damaged else "validation")
        run = str(folder.parent / "run")
        return evaluate(run, f"{suite}/{name}", "--data_dir", str(folder), "--split", split)

    return argv


def _task_argv(
    location: Callable[[pathlib.Path, str], str],
) -> Callable[[pathlib.Path, pathlib.Path, random.Random, str], list[str]]:
    def argv(folder: pathlib.Path, out: pathlib.Path, rng: random.Random, damaged: str) -> list[str]:
        return evaluate(str(folder.parent / "run"), location(folder, damaged))

    return argv


def _table_argv(folder: pathlib.Path, out: pathlib.Path, rng: random.Random, damaged: str) -> list[str]:
    form = pathlib.PurePath(damaged).suffix[1:]
    where = folder if rng.random() < 0.5 else folder / damaged
    return [
        *(
            "finetune",
            "--init",
            str(folder.parent / "run"),
            "--workdir",
            str(out / "run"),
            "--num_steps",
            "1",
        ),
        *(
            "--task",
            f"{form}:{where}",
            "--text_columns",
            "title",
            "--label_column",
            "topic",
            "--batch_size",
            "2",
        ),
        *("--objective.inputs_length", "16", "--objective.targets_length", "4", "--dropout_rate", "0"),
        *("--optimizer.schedule.warmup_steps", "0"),
    ]


def _pairs_location(folder: pathlib.Path, damaged: str) -> str:
    if "summaries" in damaged:
        return f"summarisation:{folder / damaged}"
    return f"winogender:{folder / 'winogender'}" if "winogender" in damaged else f"translation:en-de:{folder}"


# --- models


def _convert(folder: pathlib.Path, out: pathlib.Path, rng: random.Random, damaged: str) -> list[str]:
    more = ["--dry_run"] if rng.random() < 0.2 else ["--to", str(out / "to")]
    return ["convert", "--from", str(folder / pathlib.PurePath(damaged).parts[0]), *more]


def public(
    make: Callable[[pathlib.Path, str], None], models: tuple[str, ...], among: tuple[str, ...]
) -> Kind:
    """Returns the kind of public models."""

    def make_all(folder: pathlib.Path) -> None:
        for name in models:
            make(folder / name, name)

    return files(make_all, _convert, among=tuple(f"*/{pattern}" for pattern in among))


def _t5x(folder: pathlib.Path) -> None:
    valid.write_t5x(folder, is_orbax=False)


def _orbax(folder: pathlib.Path) -> None:
    valid.write_t5x(folder, is_orbax=True)


def _t5x_argv(folder: pathlib.Path, out: pathlib.Path, rng: random.Random, damaged: str) -> list[str]:
    vocabulary = ["--vocabulary", str(folder / "vocabulary" / "spiece.model")]
    return ["convert", "--from", str(folder / "from"), "--to", str(out / "to"), *vocabulary]


# --- runs


def _checkpoint_argv(folder: pathlib.Path, out: pathlib.Path, rng: random.Random, damaged: str) -> list[str]:
    run = str(folder / "run")
    return rng.choice(
        (
            ["convert", "--from", run, "--to", str(out / "to"), "--format", "hf"],
            [
                "generate",
                "--init",
                run,
                "--text",
                "a",
                "--objective.targets_length",
                "4",
                "--objective.inputs_length",
                "8",
            ],
            ["batch", "--workdir", run, "--step", "3"],
        )
    )


def _run_argv(folder: pathlib.Path, out: pathlib.Path, rng: random.Random, damaged: str) -> list[str]:
    run = str(folder / "run")
    return rng.choice(
        (
            ["convert", "--from", run, "--to", str(out / "to"), "--format", "hf"],
            ["batch", "--workdir", run, "--step", "3"],
            ["evaluate", "--init", run, "--max_examples", "2", "--batch_size", "2"],
        )
    )


def _benchmark_argv(folder: pathlib.Path) -> list[str]:
    return [
        *("benchmark", "super_glue", "--init", "tiny", "--tasks", "rte", "--max_steps", "1", "--seeds", "1"),
        *("--data_dir", "super_glue", "--workdir", str(folder / "runs"), "--batch_size", "2"),
        *("--inputs_length", "16", "--targets_length", "4"),
    ]


def _benchmark(folder: pathlib.Path) -> None:
    from t5like.cli import dispatch

    dispatch(_benchmark_argv(folder))


def _dataset_dict(folder: pathlib.Path) -> None:
    for split in ("train", "validation"):
        writers.write_dataset(folder / split, valid.TEXTS)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation"]}))


KINDS: dict[str, Kind] = {
    "command_lines": Kind(make=valid.write_config, case=command_line),
    "options": Kind(make=valid.write_config, case=option),
    "options_of_a_run": Kind(make=valid.write_config, case=option_of_a_run, codes=frozenset({2, 6})),
    "config_files": Kind(make=valid.write_config, case=config_file),
    "text": files(
        valid.write_text, lambda folder, out, rng, damaged: ngram(folder, folder / "text"), codes=DATA
    ),
    "jsonl": source("a.jsonl"),
    "compressed": files(
        _compressed_text, lambda folder, out, rng, damaged: ngram(folder, folder / damaged), codes=DATA
    ),
    "compressed_jsonl": sources("a.json.gz", "a.ndjson.zst", "a.jsonl.bz2", "a.jsonl.xz"),
    "parquet": source("a.parquet"),
    "arrow": sources("stream.arrow", "file.arrow"),
    "dataset_folder": source("dataset"),
    "dataset_dict": files(
        _dataset_dict,
        lambda folder, out, rng, damaged: ["ngram", "--data", str(folder), "--order", "2"],
        among=("**/*.json",),
        codes=DATA,
    ),
    "tfrecord": sources("a.tfrecord-00000-of-00001", "a.tfrecords.gz"),
    "array_record": source("a.array_record"),
    "tfds": files(valid.write_tfds, _tfds_argv, codes=DATA, names=("stories",)),
    "vocabularies": files(valid.write_vocabularies, _vocabulary_argv),
    "token_store": files(_store, _store_argv, among=("store/**/*",), codes=DATA, may_write=("in/store",)),
    "glue": files(valid.write_glue, _suite_argv("glue"), among=("*/*.tsv",)),
    "super_glue": files(valid.write_super_glue, _suite_argv("super_glue")),
    "squad": files(valid.write_squad, _task_argv(lambda folder, damaged: f"squad:{folder}")),
    "conll": files(
        valid.write_conll,
        lambda folder, out, rng, damaged: [
            *(
                "finetune",
                "--init",
                f"hf:{folder.parent / 'bert'}",
                "--task",
                f"conll:{folder}",
                "--num_steps",
                "1",
            ),
            *("--workdir", str(out / "run"), "--batch_size", "2", "--objective.inputs_length", "16"),
            *("--optimizer.schedule.warmup_steps", "0"),
        ],
    ),
    "tables": files(valid.write_tables, _table_argv),
    "pairs_of_texts": files(valid.write_pairs, _task_argv(_pairs_location)),
    "task_files": files(
        lambda folder: (folder / "task.py").write_text(valid.TASK) and None,
        _task_argv(lambda folder, damaged: str(folder / "task.py")),
    ),
    "safetensors": public(
        valid.write_public, ("t5-1.1", "bert-next-sentence", "gpt2"), ("model.safetensors",)
    ),
    "shards": public(valid.write_shards, ("bart", "roberta"), ("*.safetensors*",)),
    "torch_files": public(valid.write_torch, ("t5-1.1", "bert"), ("pytorch_model.bin",)),
    "public_configs": public(
        valid.write_public,
        ("t5-1.1", "bert-classifier", "gpt2", "bart", "distilbert", "umt5", "roberta-tagger"),
        ("config.json",),
    ),
    "tokenizer_files": public(
        valid.write_public, ("t5-1.1", "bert", "gpt2", "bart"), ("*token*", "vocab*", "merges*", "spiece*")
    ),
    "t5x": files(_t5x, _t5x_argv, among=("from/**/*",)),
    "orbax": files(_orbax, _t5x_argv, among=("from/**/*",)),
    "run_files": files(
        valid.write_run,
        _run_argv,
        among=("run/config.json", "run/model.json", "run/vocabulary/*"),
        names=("This model has",),
    ),
    "checkpoints": files(
        valid.write_run,
        _checkpoint_argv,
        among=("run/checkpoints/**/*", "run/checkpoints/*/run/*"),
        codes=CHECKPOINT,
    ),
    "resumed_runs": files(
        valid.write_run,
        lambda folder, out, rng, damaged: [
            *("pretrain", str(folder / "again.py"), "--workdir", str(folder / "run")),
            *("--num_steps", rng.choice("23")),
        ],
        among=("run/*.json*", "run/checkpoints/*/manifest.json", "run/checkpoints/*/run/*"),
        codes=frozenset({2, 5}),
        may_write=("in/run",),
    ),
    "benchmarks": files(
        _benchmark,
        lambda folder, out, rng, damaged: _benchmark_argv(folder),
        among=("runs/*.json", "runs/rte/*/*result.json", "runs/rte/*/answers.json", "runs/tiny/*.json"),
        may_write=("in/runs",),
    ),
    "zips": files(
        valid.write_submission_zip,
        lambda folder, out, rng, damaged: ["benchmark", "check", str(folder / damaged)],
    ),
    "inputs_of_generate": files(
        lambda folder: (folder / "inputs.txt").write_text("\n".join(valid.TEXTS[:3])) and None,
        lambda folder, out, rng, damaged: [
            *("generate", "--init", str(folder.parent / "run"), "--input_file", str(folder / "inputs.txt")),
            *("--objective.targets_length", "4", "--objective.inputs_length", "8"),
        ],
    ),
}
