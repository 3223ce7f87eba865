"""Public classifiers whose labels stand in another order than the task's: in, trained, and out again, by their names."""

import dataclasses
import functools
import itertools
import json

import jax
import numpy as np
import pytest

from t5like.config import CommandLine
from t5like.convert import main as convert
from t5like.errors import UserError
from t5like.evaluate import Evaluate, evaluate
from t5like.families.base import label_names
from t5like.finetune import Finetune, finetune
from t5like.mesh import MeshShape
from t5like.metrics_log import METRICS_FILE, read_metrics
from t5like.objectives.text_to_text import TextToText
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Constant
from t5like.placement import place
from t5like.public_model import load_public_model, save_public_model
from t5like.sharding import AxisRules
from t5like.task_forms import load_for_task
from t5like.tasks import find_task
from t5like.workdir import load_workdir
from tests.public_models import hf, torch
from tests.tiny_models import MODELS, arrays_of, load, vocabulary_of

NLI = ("entailment", "neutral", "contradiction")  # as the task has them
ORDERS = list(itertools.permutations(range(3)))
OBJECTIVE = TextToText(inputs_length=24, targets_length=4)


@functools.cache
def long_model(name):
    """Returns a tiny model with positions for rows as long as `evaluate` makes them, and its parameters."""
    arrays = dict(arrays_of(name))
    positions = next(key for key in arrays if "position_embeddings" in key)
    noise = np.random.default_rng(1).normal(size=(128, arrays[positions].shape[1]))
    arrays[positions] = np.float32(0.15) * noise.astype(np.float32)
    transformer, params, _ = load({**MODELS[name], "max_position_embeddings": 128}, arrays)
    return transformer.config, params


def save_classifier(folder, order=(0, 1, 2), *, model="bert-classifier", names=NLI):
    """Writes a tiny classifier whose row i is for label order[i]; returns what --init calls it."""
    config, params = long_model(model)
    head = {name: np.asarray(array)[..., list(order)] for name, array in params["classifier"].items()}
    named = tuple(names[label] for label in order) if names else ()
    config = dataclasses.replace(config, label_names=named)
    save_public_model(folder, config, vocabulary_of(model), {**params, "classifier": head})
    return f"hf:{folder}"


def save_bert(folder):
    """Writes a tiny BERT with its masked language model; returns what --init calls it."""
    config, params = long_model("bert")
    save_public_model(folder, config, vocabulary_of("bert"), params)
    return f"hf:{folder}"


@pytest.fixture(scope="module")
def mnli(tmp_path_factory):
    """Made-up files of MNLI in its official form, pairs of letters."""
    folder, rng = tmp_path_factory.mktemp("glue"), np.random.default_rng(0)
    (folder / "MNLI").mkdir()
    columns = ["index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse"]
    columns += ["sentence1_parse", "sentence2_parse", "sentence1", "sentence2", "gold_label"]
    lines = ["\t".join(columns)]
    for number in range(90):
        texts = [" ".join(rng.choice(list("abcdefgh"), 3)) for _ in range(2)]
        lines.append("\t".join([str(number), *"x" * 7, *texts, NLI[number % 3]]))
    for split in ("train", "dev_matched"):
        (folder / "MNLI" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def measured(init, folder, **options):
    return evaluate(
        Evaluate(init=str(init), data_dir=str(folder), task="glue/mnli", **options), CommandLine(None, False)
    )


def tuning(init, folder, **options):
    return Finetune(
        task="glue/mnli",
        init=init,
        data_dir=str(folder),
        objective=OBJECTIVE,
        dropout_rate=0.0,
        optimizer=AdamW(schedule=Constant(peak=1e-2)),
        num_steps=4,
        batch_size=16,
        log_every_steps=1,
        eval_every_steps=4,
        checkpoint_every_steps=4,
        **options,
    )


def losses_of(workdir):
    return [row["label_nats"] for row in read_metrics(workdir / METRICS_FILE) if row["split"] == "train"]


def public_accuracy(folder, data):
    """Returns what Transformers scores, reading its answers by the names in its config, in percent."""
    model = hf.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    examples = find_task("glue/mnli").load("validation", data)
    texts = [list(side) for side in zip(*(example.texts for example in examples), strict=True)]
    with torch.no_grad():
        logits = model(**tokenizer(*texts, padding=True, return_tensors="pt")).logits
    named = [model.config.id2label[number] for number in logits.argmax(-1).tolist()]
    assert {model.config.label2id[name] for name in named} <= {0, 1, 2}
    right = [
        name.casefold() == example.targets.casefold() for name, example in zip(named, examples, strict=True)
    ]
    return 100 * np.mean(right)


# --- What comes with its head -----------------------------------------------------------------------------------


def test_the_order_of_a_head_changes_no_score(mnli, tmp_path):
    scores = {}
    for order in ORDERS:
        init = save_classifier(tmp_path / str(order), order)
        scores[order] = measured(init, mnli)[0].value
    assert scores[0, 1, 2] == pytest.approx(public_accuracy(tmp_path / str((0, 1, 2)), mnli))
    assert len(set(scores.values())) == 1
    # Without their names two heads would answer otherwise, so the law can fail.
    renamed = save_classifier(tmp_path / "renamed", names=("neutral", "contradiction", "entailment"))
    assert measured(renamed, mnli)[0].value != scores[0, 1, 2]


def test_the_order_of_a_head_changes_nothing_that_is_learnt(mnli, tmp_path):
    losses, accuracies = [], []
    for order in ((0, 1, 2), (2, 0, 1)):
        run = tmp_path / f"run{order}"
        finetune(tuning(save_classifier(tmp_path / str(order), order), mnli), run)
        losses.append(losses_of(run))
        accuracies.append(measured(run, mnli)[0].value)
        assert load_workdir(run).config.label_names == tuple(NLI[label] for label in order)
        convert(["--from", str(run), "--to", str(tmp_path / f"out{order}")])
        assert public_accuracy(tmp_path / f"out{order}", mnli) == pytest.approx(accuracies[-1])
        assert measured(f"hf:{tmp_path / f'out{order}'}", mnli)[0].value == accuracies[-1]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert accuracies[0] == accuracies[1]


def test_public_spellings_are_understood_and_kept(mnli, tmp_path):
    names = ("ENTAILMENT", "NEUTRAL", "CONTRADICTION")
    init = save_classifier(tmp_path / "public", (2, 1, 0), names=names)
    plain = save_classifier(tmp_path / "plain")
    assert measured(init, mnli) == measured(plain, mnli)
    convert(["--from", str(tmp_path / "public"), "--to", str(tmp_path / "run")])
    assert measured(tmp_path / "run", mnli) == measured(plain, mnli)
    convert(["--from", str(tmp_path / "run"), "--to", str(tmp_path / "out")])
    for folder in ("public", "out"):
        config = hf.AutoConfig.from_pretrained(tmp_path / folder)
        assert config.id2label == {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}
        assert config.label2id == {"CONTRADICTION": 0, "NEUTRAL": 1, "ENTAILMENT": 2}


def test_a_classifier_that_transformers_saves_is_read_by_its_names(mnli, tmp_path):
    save_classifier(tmp_path / "first")
    model = hf.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "first",
        id2label={0: "neutral", 1: "contradiction", 2: "entailment"},
        label2id={"neutral": 0, "contradiction": 1, "entailment": 2},
    )
    model.save_pretrained(tmp_path / "second")
    hf.AutoTokenizer.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    loaded = load_public_model(tmp_path / "second")
    assert loaded.config.label_names == ("neutral", "contradiction", "entailment")
    assert measured(f"hf:{tmp_path / 'second'}", mnli)[0].value == pytest.approx(
        public_accuracy(tmp_path / "second", mnli)
    )


def test_a_tagger_is_read_by_its_names_too(tmp_path):
    data, tags = tmp_path / "data", ("O", "B-x", "I-x")
    data.mkdir()
    rng = np.random.default_rng(0)
    for split in ("train", "valid"):
        blocks = ["\n".join(f"{letter} {tag}" for letter, tag in zip("abc", tags, strict=True))] * 4
        blocks += [f"{letter} O" for letter in rng.choice(list("defgh"), 8)]
        (data / f"{split}.txt").write_text("\n\n".join(blocks) + "\n")
    task = find_task(f"conll:{data}")
    assert sorted(task.labels) == sorted(tags)
    scores = set()
    for order in ORDERS:
        init = save_classifier(tmp_path / str(order), order, model="bert-tagger", names=task.labels)
        asked = Evaluate(init=init, task=f"conll:{data}")
        scores.add(evaluate(asked, CommandLine(None, False))[0].value)
    assert len(scores) == 1
    init = save_classifier(tmp_path / "other", model="bert-tagger", names=("B-x", "I-x", "B-y"))
    asked = Evaluate(init=init, task=f"conll:{data}")
    with pytest.raises(UserError, match=r"has the labels .* tells apart B-x, I-x, B-y"):
        evaluate(asked, CommandLine(None, False))


# --- What is drawn ----------------------------------------------------------------------------------------------


def test_a_head_that_is_drawn_has_the_names_of_the_task(mnli, tmp_path):
    save_bert(tmp_path / "bert")
    finetune(tuning(f"hf:{tmp_path / 'bert'}", mnli), tmp_path / "run")
    convert(["--from", str(tmp_path / "run"), "--to", str(tmp_path / "out")])
    public = json.loads((tmp_path / "out" / "config.json").read_text())
    assert public["id2label"] == {"0": "entailment", "1": "neutral", "2": "contradiction"}
    assert public["label2id"] == {"entailment": 0, "neutral": 1, "contradiction": 2}
    assert public_accuracy(tmp_path / "out", mnli) == pytest.approx(measured(tmp_path / "run", mnli)[0].value)


def test_a_head_that_convert_draws_has_no_names_until_it_learns_a_task(mnli, tmp_path):
    save_bert(tmp_path / "bert")
    wanted = ["--head", "sequence_classification", "--num_labels", "3"]
    convert(["--from", str(tmp_path / "bert"), "--to", str(tmp_path / "run"), *wanted])
    assert load_workdir(tmp_path / "run").config.label_names == ()
    assert load_for_task(str(tmp_path / "run"), find_task("glue/mnli")).config.label_names == NLI


def test_a_number_has_no_name(tmp_path):
    save_bert(tmp_path / "bert")
    wanted = ["--head", "sequence_classification", "--num_labels", "1"]
    convert(["--from", str(tmp_path / "bert"), "--to", str(tmp_path / "run"), *wanted])
    convert(["--from", str(tmp_path / "run"), "--to", str(tmp_path / "out")])
    convert(["--from", str(tmp_path / "out"), "--to", str(tmp_path / "again")])
    kernels = []
    for init in (tmp_path / "run", f"hf:{tmp_path / 'out'}", tmp_path / "again"):
        loaded = load_for_task(str(init), find_task("glue/stsb"))
        kernels.append(restored(loaded)["classifier"]["kernel"])
    for kernel in kernels[1:]:
        np.testing.assert_array_equal(kernel, kernels[0])


def restored(model):
    placement = place(model.config, MeshShape(), AxisRules(), batch_size=len(jax.devices()))
    return model.restore(placement.params, seed=5)


# --- What is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            None,
            "calls its labels LABEL_0, LABEL_1, LABEL_2, which does not say which of entailment, neutral, ",
        ),
        (
            ("0", "1", "2"),
            "calls its labels 0, 1, 2, which does not say which of .* write these, .* into id2label",
        ),
        (
            ("negative", "neutral", "positive"),
            "glue/mnli has the labels entailment, neutral, contradiction, but the head of this model tells apart "
            "negative, neutral, positive; fine-tune",
        ),
        (("neutral", "neutral", "entailment"), "tells apart neutral, neutral, entailment"),
    ],
    ids=["none", "numbers", "others", "twice"],
)
def test_names_that_are_not_the_tasks_are_refused(names, message, mnli, tmp_path):
    init = save_classifier(tmp_path / "public", names=names)
    with pytest.raises(UserError, match=message) as caught:
        measured(init, mnli)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=message):
        finetune(tuning(init, mnli), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    # As it says, the head can be taken off, and a new one learnt.
    bare = tmp_path / "bare"
    convert(["--from", str(tmp_path / "public"), "--to", str(bare), "--head", "none"])
    finetune(tuning(str(bare), mnli), tmp_path / "run")
    assert load_workdir(tmp_path / "run").config.label_names == NLI


def test_another_number_of_labels_is_refused_by_their_names(tmp_path):
    (tmp_path / "RTE").mkdir()
    rows = "index\tsentence1\tsentence2\tlabel\n0\ta b\tc\tentailment\n"
    (tmp_path / "RTE" / "dev.tsv").write_text(rows)
    init = save_classifier(tmp_path / "public")
    asked = Evaluate(init=init, task="glue/rte", data_dir=str(tmp_path))
    with pytest.raises(
        UserError, match="glue/rte has the labels entailment, not_entailment, but the head of"
    ):
        evaluate(asked, CommandLine(None, False))


@pytest.mark.parametrize(
    ("public", "names"),
    [
        ({"id2label": {"1": "b", "0": "a"}}, ("a", "b")),
        ({"id2label": {"0": 3, "1": "b"}}, ("3", "b")),
        ({}, ("LABEL_0", "LABEL_1")),
        ({"num_labels": 3, "id2label": {"0": "a", "1": "b"}}, ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({"id2label": ["a", "b"]}, ("LABEL_0", "LABEL_1")),
    ],
)
def test_names_are_those_that_the_public_code_sees(public, names):
    assert label_names(public, "sequence_classification") == names
    assert label_names(public, "language_model") == ()


def test_names_of_no_label_are_refused():
    with pytest.raises(UserError, match=r"id2label in config\.json gives 2 names, but none for 0"):
        label_names({"id2label": {"1": "a", "2": "b"}}, "token_tagging")
