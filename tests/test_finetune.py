"""An encoder is fine-tuned with the head its task needs, from a public folder or from a run, and is measured with it."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from t5like import sharding as sharding_module
from t5like.batch import Features
from t5like.config import CommandLine
from t5like.data.example_ids import parse_id
from t5like.errors import UserError
from t5like.evaluate import Evaluate, evaluate
from t5like.finetune import Finetune, finetune
from t5like.mesh import MeshShape
from t5like.metrics_log import METRICS_FILE, read_metrics
from t5like.objectives.text_to_text import TextToText
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Constant
from t5like.outcome import last_validation
from t5like.placement import place
from t5like.public_model import save_public_model
from t5like.sharding import AxisRules
from t5like.task_evaluation import TASK_SCORE
from t5like.task_forms import load_for_task
from t5like.tasks import find_task
from t5like.workdir import load_workdir
from tests.tiny_models import ours, vocabulary_of

LENGTH = 20


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny BERT in Hugging Face's layout, as --init names it."""
    folder = tmp_path_factory.mktemp("encoder") / "bert"
    model, params, _ = ours("bert")
    save_public_model(folder, model.config, vocabulary_of("bert"), params)
    return f"hf:{folder}"


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SST-2 whose positive sentences have the word `the` in them."""
    folder, rng = tmp_path_factory.mktemp("glue"), np.random.default_rng(0)
    (folder / "SST-2").mkdir()
    for split, num_rows in (("train", 64), ("dev", 24)):
        rows = []
        for number in range(num_rows):
            words = rng.choice(list("abcdefgh"), 4).tolist()
            words[rng.integers(4)] = "the" if number % 2 else "x"
            rows.append(f"{' '.join(words)}\t{number % 2}")
        (folder / "SST-2" / f"{split}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def config(encoder: str, glue: Path) -> Finetune:
    return Finetune(
        task="glue/sst2",
        init=encoder,
        data_dir=str(glue),
        objective=TextToText(inputs_length=LENGTH, targets_length=4),
        dropout_rate=0.1,
        optimizer=AdamW(schedule=Constant(peak=1e-2)),
        num_steps=30,
        batch_size=16,
        log_every_steps=5,
        eval_every_steps=15,
        checkpoint_every_steps=15,
    )


@pytest.fixture(scope="module")
def tuned(config: Finetune, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("tuned") / "run"
    finetune(config, workdir)
    return workdir


def params_of(model: Any, **kwargs: Any) -> Any:
    placement = place(model.config, MeshShape(), AxisRules(), batch_size=len(jax.devices()))
    return model.restore(placement.params, **kwargs)


def test_it_learns_what_it_is_shown(tuned: Path) -> None:
    rows = [row for row in read_metrics(tuned / METRICS_FILE) if row["split"] == "train"]
    assert rows[-1]["label_nats"] < 0.5 * rows[0]["label_nats"]
    scores = json.loads((tuned / "evaluation.json").read_text())["rows"]
    assert scores[0]["value"] >= 90
    assert [score["name"] for score in scores] == ["glue/sst2 accuracy", "invalid answers"]
    assert scores[1]["value"] == 0.0
    samples = json.loads((tuned / "samples.json").read_text())
    assert {sample["prediction"] for sample in samples} <= {"negative", "positive"}


def test_what_is_measured_later_is_what_was_measured_then(tuned: Path) -> None:
    then = json.loads((tuned / "evaluation.json").read_text())["rows"][0]["value"]
    now = evaluate(Evaluate(init=str(tuned), batch_size=8), CommandLine(None, False))
    assert now[0].value == pytest.approx(then)


def test_the_body_is_kept_and_the_head_is_drawn_from_the_seed(encoder: str) -> None:
    model = load_for_task(encoder, find_task("glue/stsb"))
    assert (model.config.head, model.config.num_labels) == ("sequence_classification", 1)
    first, again, other = (params_of(model, seed=seed) for seed in (1, 1, 2))
    _, body, _ = ours("bert")
    np.testing.assert_array_equal(
        first["token_embedder"]["embedding"], np.asarray(body["token_embedder"]["embedding"])
    )
    kernel = "classifier", "kernel"
    np.testing.assert_array_equal(first[kernel[0]][kernel[1]], again[kernel[0]][kernel[1]])
    assert (np.asarray(first[kernel[0]][kernel[1]]) != np.asarray(other[kernel[0]][kernel[1]])).any()


def test_a_run_is_given_another_head_and_keeps_its_body(tuned: Path) -> None:
    own = load_workdir(tuned)
    assert load_for_task(str(tuned), find_task("glue/sst2")).config == own.config
    for name in ("glue/cola", "glue/mnli"):  # the first has two labels as well
        task = find_task(name)
        other = load_for_task(str(tuned), task)
        assert (other.config.num_labels, other.config.label_names) == (len(task.labels), task.labels)
        old, new = params_of(own), params_of(other, seed=3)
        assert new["classifier"]["kernel"].shape[-1] == len(task.labels)
        assert not np.array_equal(old["classifier"]["kernel"], new["classifier"]["kernel"])
        del old["classifier"], new["classifier"]
        jax.tree.map(np.testing.assert_array_equal, old, new)


def test_a_run_whose_labels_have_no_names_keeps_its_head_and_gets_them(tuned: Path, tmp_path: Path) -> None:
    unnamed = tmp_path / "unnamed"
    shutil.copytree(tuned, unnamed)
    description = json.loads((unnamed / "model.json").read_text())
    assert description["model"].pop("label_names") == ["negative", "positive"]
    (unnamed / "model.json").write_text(json.dumps(description))
    model = load_for_task(str(unnamed), find_task("glue/sst2"))
    assert model.config == load_workdir(tuned).config
    jax.tree.map(np.testing.assert_array_equal, params_of(model), params_of(load_workdir(tuned)))
    then, now = (
        evaluate(Evaluate(init=str(run), batch_size=8), CommandLine(None, False)) for run in (tuned, unnamed)
    )
    assert then == now


def one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes all devices away but one, as on a laptop."""
    build = MeshShape.build
    monkeypatch.setattr(MeshShape, "build", lambda mesh, _=None: build(mesh, jax.devices()[:1]))


@pytest.mark.parametrize("num_devices", [1, 8])
@pytest.mark.parametrize("kind", ["encoder", "encoder-decoder"])
def test_batches_are_learnt_alike_with_their_padding_and_without(
    kind: str,
    num_devices: int,
    config: Finetune,
    small_finetune: Finetune,
    tuned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if num_devices == 1:
        one_device(monkeypatch)
    base = config
    if kind == "encoder-decoder":
        base = dataclasses.replace(small_finetune, objective=TextToText(inputs_length=256, targets_length=48))
    whole = dataclasses.replace(base, trims_batches=False, dropout_rate=0.0, num_steps=6)
    short = dataclasses.replace(whole, trims_batches=True)
    sizes, losses, scores = [], [], []
    for number, each in enumerate((whole, short)):
        shapes: set[tuple[int, ...]] = set()

        def put_batch(batch: Features, seen: set[tuple[int, ...]] = shapes, **layout: Any) -> Any:
            seen.add(batch["encoder_segment_ids"].shape)
            return sharding_module.put_batch(batch, **layout)

        monkeypatch.setattr("t5like.training.put_batch", put_batch)
        finetune(each, tmp_path / str(number))
        sizes.append(max(map(math.prod, shapes)))
        rows = read_metrics(tmp_path / str(number) / METRICS_FILE)
        name = "label_nats" if kind == "encoder" else "nats_per_token"
        losses.append([row[name] for row in rows if row["split"] == "train"])
        scores.append([row["accuracy"] for row in rows if row["split"] == "validation"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert scores[0] == scores[1]
    if num_devices == 1:
        assert sizes[1] < 0.8 * sizes[0]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("translation/multi30k_en_de", "an encoder alone cannot write"),
        ("super_glue/wsc_referent", "no form for encoders alone"),
    ],
)
def test_what_an_encoder_cannot_do_is_refused(
    config: Finetune, tmp_path: Path, task: str, message: str
) -> None:
    shared = (Path(__file__).resolve().parents[1] / "../shared/data").resolve()
    folder = shared / ("multi30k" if "multi30k" in task else "super_glue")
    if not folder.exists():
        pytest.skip("needs ../shared/data beside the checkout")
    refused = dataclasses.replace(config, task=task, data_dir=str(folder))
    with pytest.raises(UserError, match=message):
        finetune(refused, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def mixed(small_finetune: Finetune, glue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of an encoder-decoder on two tasks at once."""
    (glue / "CoLA").mkdir()
    for split, num_rows in (("train", 16), ("dev", 8)):
        rows = [f"x\t{number % 2}\t\tabc def {number}" for number in range(num_rows)]
        (glue / "CoLA" / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    workdir = tmp_path_factory.mktemp("mixed") / "run"
    both = dataclasses.replace(small_finetune, task="glue/sst2,glue/cola", data_dir=str(glue))
    finetune(dataclasses.replace(both, audits_examples=True), workdir)
    return workdir


def test_several_tasks_are_learnt_in_proportion_and_each_is_measured(mixed: Path) -> None:
    steps = [json.loads(line)["example_ids"] for line in (mixed / "audit.jsonl").read_text().splitlines()]
    components = np.array([parse_id(number).component for ids in steps for number in np.ravel(ids)])
    assert np.bincount(components).tolist() == pytest.approx(
        [64 / 80 * len(components), 16 / 80 * len(components)], abs=2
    )
    row = last_validation(mixed)
    assert row[TASK_SCORE] == pytest.approx((row["glue/sst2 task_score"] + row["glue/cola task_score"]) / 2)
    now = {
        score.name: score.value
        for score in evaluate(Evaluate(init=str(mixed), batch_size=8), CommandLine(None, False))
    }
    assert now["glue/cola matthews_corrcoef"] == pytest.approx(row["glue/cola matthews_corrcoef"])
    one = evaluate(Evaluate(init=str(mixed), task="glue/cola", batch_size=8), CommandLine(None, False))
    assert one[0].value == now["glue/cola matthews_corrcoef"]


def test_an_encoder_learns_one_task_at_a_time(config: Finetune, mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="an encoder alone has a head for one task"):
        finetune(dataclasses.replace(config, task="glue/sst2,glue/cola"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_encoder_without_the_head_is_not_measured(encoder: str, glue: Path) -> None:
    asked = Evaluate(init=encoder, task="glue/sst2", data_dir=str(glue))
    with pytest.raises(UserError, match="needs an encoder with the head sequence_classification of 2 labels"):
        evaluate(asked, CommandLine(None, False))
