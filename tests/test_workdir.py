"""Who a workdir belongs to, and what can be read back from it."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from t5like import workdir as workdirs
from t5like.config import to_dict
from t5like.data.sentencepiece_vocabulary import SentencePieceVocabulary, train_vocabulary
from t5like.data.vocabulary import Vocabulary, save_vocabulary
from t5like.errors import UserError
from t5like.models.config import TransformerConfig
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Constant
from t5like.outcome import check_folder, write_outcome
from t5like.whole_files import write_json

MODEL = TransformerConfig(
    embed_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=32,
    num_encoder_layers=1,
    num_decoder_layers=1,
    num_embeddings=512,
)


@pytest.fixture(scope="module")
def vocabulary(small_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    texts = [path.read_text() for path in sorted((small_text / "text").iterdir())]
    path = tmp_path_factory.mktemp("vocabulary") / "spiece.model"
    train_vocabulary(texts, size=300, path=path)
    return SentencePieceVocabulary.load(path, extra_ids=100)


@pytest.fixture
def workdir(small_pretrain: Any, vocabulary: Vocabulary, tmp_path: Path) -> Path:
    """A workdir as it is before the first checkpoint."""
    workdirs.create(tmp_path / "run", small_pretrain, MODEL, vocabulary)
    return tmp_path / "run"


def fake_checkpoint(workdir: Path, step: int) -> None:
    """Makes what is taken for a whole checkpoint of format 1."""
    folder = workdir / "checkpoints" / str(step)
    folder.mkdir(parents=True)
    (folder / "_CHECKPOINT_METADATA").write_text("{}")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(act: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as raised:
        act()
    return str(raised.value)


def test_a_new_or_empty_folder_begins_a_run(small_pretrain: Any, tmp_path: Path) -> None:
    assert workdirs.find_resume_step(tmp_path, small_pretrain) is None
    assert workdirs.find_resume_step(tmp_path / "new" / "deep", small_pretrain) is None
    assert list(tmp_path.iterdir()) == []


def test_a_run_goes_on_from_its_newest_checkpoint(small_pretrain: Any, workdir: Path) -> None:
    assert workdirs.find_resume_step(workdir, small_pretrain) is None
    (workdir / "checkpoints").mkdir()
    assert workdirs.find_resume_step(workdir, small_pretrain) is None
    for step in (4, 8):
        fake_checkpoint(workdir, step)
    assert workdirs.find_resume_step(workdir, small_pretrain) == 8


def with_field(config: Any, path: str, change: Callable[[Any], Any]) -> Any:
    """Returns a config in which the field at a dotted path is another."""
    name, _, rest = path.partition(".")
    value = getattr(config, name)
    return dataclasses.replace(config, **{name: with_field(value, rest, change) if rest else change(value)})


@pytest.mark.parametrize("name", workdirs.MAY_CHANGE)
def test_what_may_change_may(name: str, small_pretrain: Any, workdir: Path) -> None:
    fake_checkpoint(workdir, 4)
    others = {
        "token_store": "elsewhere",
        "checkpoints_kept_every_steps": 8,
        "checkpoints_pinned": (4,),
        "best_checkpoint_metric": "accuracy",
        "best_checkpoint_is": "highest",
        "guard.when_bad": "skip",
        "guard.spike_factor": 8.0,
    }
    changed = with_field(small_pretrain, name, lambda value: others[name] if name in others else value + 1)
    assert changed != small_pretrain
    assert workdirs.find_resume_step(workdir, changed) == 4


def test_another_config_is_refused_with_the_field_and_both_values(small_pretrain: Any, workdir: Path) -> None:
    for change, sentence in (
        ({"seed": 3}, "seed was 0 and is now 3;"),
        ({"seed": 3, "batch_size": 16}, "batch_size was 8 and is now 16 (and 1 more);"),
        (
            {"model": dataclasses.replace(small_pretrain.model, embed_dim=8)},
            "model.embed_dim was 16 and is now 8;",
        ),
    ):
        message = refused(
            lambda c=change: workdirs.find_resume_step(workdir, dataclasses.replace(small_pretrain, **c))
        )
        assert f"belongs to another config: {sentence}" in message
    message = refused(lambda: workdirs.find_resume_step(workdir, AdamW(schedule=Constant(peak=1.0))))
    assert "its kind was 't5like.pretrain.Pretrain' and is now 't5like.optim.adamw.AdamW'" in message


def test_a_run_cannot_be_made_shorter_than_it_is(small_pretrain: Any, workdir: Path) -> None:
    (workdir / "checkpoints" / "8").mkdir(parents=True)
    shorter = dataclasses.replace(small_pretrain, num_steps=7)
    assert "is at step 8 already, beyond num_steps 7" in refused(
        lambda: workdirs.find_resume_step(workdir, shorter)
    )


def test_a_field_added_since_has_the_value_it_had_in_effect(small_pretrain: Any, workdir: Path) -> None:
    saved = to_dict(small_pretrain)
    del saved["label_smoothing"], saved["model"]["remat"]  # as a run of an earlier version has it
    write_json(workdir / "config.json", saved)
    assert workdirs.find_resume_step(workdir, small_pretrain) is None
    smoother = dataclasses.replace(small_pretrain, label_smoothing=0.1)
    message = refused(lambda: workdirs.find_resume_step(workdir, smoother))
    assert "label_smoothing was 0.0 and is now 0.1" in message


def test_a_folder_of_something_else_is_left_alone(small_pretrain: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "holds files but no run" in refused(lambda: workdirs.find_resume_step(tmp_path, small_pretrain))
    for path in (tmp_path / "thesis.txt", tmp_path / "thesis.txt" / "run" / "deep"):
        message = refused(lambda p=path: workdirs.find_resume_step(p, small_pretrain))
        assert "cannot be a folder" in message
        assert message.endswith("thesis.txt is a file.")
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_what_is_created_is_read_back(small_pretrain: Any, vocabulary: Vocabulary, workdir: Path) -> None:
    assert workdirs.load_config(workdir) == small_pretrain
    model, read = workdirs.load_description(workdir)
    assert model == MODEL
    assert read.sha256 == vocabulary.sha256
    assert not list(workdir.glob("*.tmp"))


def test_creating_again_writes_the_same(small_pretrain: Any, vocabulary: Vocabulary, workdir: Path) -> None:
    before = contents(workdir)
    workdirs.create(workdir, small_pretrain, MODEL, vocabulary)
    assert contents(workdir) == before


def test_a_run_killed_while_its_folder_was_made_begins_again(small_pretrain: Any, workdir: Path) -> None:
    (workdir / "model.json").unlink()
    shutil.rmtree(workdir / "vocabulary")
    assert workdirs.find_resume_step(workdir, small_pretrain) is None


def change_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_in_model(path: Path, **fields: Any) -> None:
    change_json(path, model=json.loads(path.read_text())["model"] | fields)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no model.json": (lambda w: (w / "model.json").unlink(), "is no workdir of t5like: it has no model.json"),
    "half a model.json": (lambda w: (w / "model.json").write_text('{"model":'), "model.json is damaged"),
    "a list": (lambda w: (w / "model.json").write_text("[1]"), "it holds a list where an object belongs"),
    "no bytes": (lambda w: (w / "model.json").write_bytes(b"\xff\xff"), "model.json is damaged"),
    "a folder": (
        lambda w: [(w / "model.json").unlink(), (w / "model.json").mkdir()],
        "model.json is damaged",
    ),
    "nesting": (lambda w: (w / "model.json").write_text("[" * 100_000), "model.json is damaged"),
    "a missing field": (
        lambda w: (w / "model.json").write_text("{}"),
        "model is missing or of the wrong type",
    ),
    "a wrong type": (
        lambda w: change_json(w / "model.json", vocabulary_sha256=3),
        "vocabulary_sha256 is missing or of the wrong type",
    ),
    "a foreign class": (
        lambda w: change_json(w / "model.json", model={"__class__": "os.system"}),
        "names the class 'os.system', which t5like does not have",
    ),
    "another class": (
        lambda w: change_json(w / "model.json", model=to_dict(Constant(peak=1.0))),
        "its model is a Constant",
    ),
    "a value of another type": (
        lambda w: change_in_model(w / "model.json", dropout_rate="a tenth"),
        "model.json cannot be used: A saved config does not fit this version of t5like: dropout_rate takes a number",
    ),
    "a value out of range": (
        lambda w: change_in_model(w / "model.json", dropout_rate=2.0),
        "model.json cannot be used: model.dropout_rate is 2.0",
    ),
    "no vocabulary": (lambda w: shutil.rmtree(w / "vocabulary"), "Cannot read the vocabulary"),
    "no SentencePiece model": (
        lambda w: (w / "vocabulary" / "spiece.model").write_text("hello"),
        "is truncated or not a SentencePiece model",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_workdir_is_named(damage: str, workdir: Path) -> None:
    act, says = DAMAGES[damage]
    act(workdir)
    message = refused(lambda: workdirs.load_description(workdir))
    assert says in message
    assert "\n" not in message


def test_a_replaced_vocabulary_does_not_match(workdir: Path, small_text: Path) -> None:
    texts = [path.read_text() for path in sorted((small_text / "text").iterdir())]
    train_vocabulary(texts, size=299, path=workdir / "vocabulary" / "spiece.model")
    message = refused(lambda: workdirs.load_description(workdir))
    assert "is not the one that was saved there" in message
    other = SentencePieceVocabulary.load(workdir / "vocabulary" / "spiece.model")
    save_vocabulary(other, workdir / "vocabulary")  # a whole one, of another model
    message = refused(lambda: workdirs.load_description(workdir))
    assert "vocabulary does not match the checkpoint" in message


def test_a_run_is_used_from_its_newest_checkpoint_only(workdir: Path, tmp_path: Path) -> None:
    assert "holds no checkpoint" in refused(lambda: workdirs.load_workdir(workdir))
    assert "There is no workdir" in refused(lambda: workdirs.load_workdir(tmp_path / "nosuch"))
    fake_checkpoint(workdir, 4)
    assert workdirs.load_workdir(workdir).step == 4
    shutil.rmtree(workdir / "checkpoints")
    (workdir / "checkpoints").write_text("")
    assert "checkpoints is damaged" in refused(lambda: workdirs.load_workdir(workdir))


def test_an_evaluation_goes_to_a_folder_of_its_own(workdir: Path, tmp_path: Path) -> None:
    check_folder(tmp_path / "new")
    write_outcome(tmp_path / "new", 3, [], [])
    check_folder(tmp_path / "new")  # measured again, it may be written again
    assert "holds other files than an earlier evaluation" in refused(lambda: check_folder(workdir))
    assert "is a file" in refused(lambda: check_folder(workdir / "config.json"))


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with workdirs.new_folder(tmp_path / "to") as temporary:
            (temporary / "file").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert not list(tmp_path.iterdir())
    with workdirs.new_folder(tmp_path / "to") as temporary:
        (temporary / "file").write_text("whole")
        assert not (tmp_path / "to").exists()
    assert contents(tmp_path) == {"to/file": b"whole"}
