"""What `t5like tokenize` keeps is what a run reads, and it says what it kept."""

import dataclasses
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from t5like import tokenize_text
from t5like.config import to_json
from t5like.data import token_store
from t5like.data.mixture import Component, Mixture
from t5like.data.sources.file_source import FileSource
from t5like.errors import UserError
from t5like.outcome import last_validation
from t5like.pretrain import pretrain
from t5like.tokenize_text import Tokenize, main, tokenize


def as_tokenize(config: Any, **changes: Any) -> Tokenize:
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return Tokenize(**fields | {"num_processes": 1} | changes)


def scores(workdir: Path) -> dict[str, float]:
    return {name: row for name, row in last_validation(workdir).items() if name in ("step", "nats_per_token")}


def test_a_run_is_the_same_with_a_store_that_appears_or_vanishes(
    small_pretrain: Any,
    pretrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = dataclasses.replace(small_pretrain, vocabulary=str(pretrained / "vocabulary"))
    stored = dataclasses.replace(config, token_store=str(tmp_path / "tokens"))
    tokenize(as_tokenize(stored))
    capsys.readouterr()

    # Text to train on comes from the store: of the files, the threads that make rows read nothing.
    readers: list[str] = []
    read = FileSource.read

    def recorded_read(self: FileSource, block: int, start: int = 0) -> Any:
        readers.append(threading.current_thread().name)
        return read(self, block, start)

    monkeypatch.setattr(FileSource, "read", recorded_read)
    pretrain(dataclasses.replace(stored, num_steps=8), tmp_path / "run")
    assert readers
    assert not any(name.startswith("t5like-groups") for name in readers)
    pretrain(config, tmp_path / "run")
    assert any(name.startswith("t5like-groups") for name in readers)
    assert scores(tmp_path / "run") == scores(pretrained)
    assert len(scores(pretrained)) == 2

    shutil.rmtree(tmp_path / "tokens")
    pretrain(stored, tmp_path / "other")
    assert scores(tmp_path / "other") == scores(pretrained)
    assert "tokens does not hold" in capsys.readouterr().err


def test_it_ends_with_a_line_that_counts_what_is_kept(
    small_pretrain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = as_tokenize(small_pretrain, vocabulary="bytes", token_store=str(tmp_path / "tokens"))
    (store,) = tokenize(config)
    line = capsys.readouterr().out
    assert line.startswith(f"{store.folder}: 59 documents, ")
    assert f" tokens, 59 of 59 parts, {store.size.num_bytes:,} bytes, " in line
    assert line.count("\n") == 1
    before = {path: path.stat().st_mtime_ns for path in store.folder.glob("part-*")}
    tokenize(config)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_partial_store_says_so_and_each_component_has_its_own(
    small_pretrain: Any, small_text: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "some words"}\n')
    mixture = Mixture(
        components=(
            Component(data=small_pretrain.data, rate=1.0),
            Component(data=str(tmp_path / "a.jsonl"), rate=1.0, text_field="body"),
        )
    )
    held_out = str(small_text / "text" / "00.txt")
    config = as_tokenize(
        small_pretrain,
        mixture=mixture,
        validation_data=held_out,
        vocabulary="bytes",
        token_store=str(tmp_path / "tokens"),
    )
    assert [store.size.num_records for store in tokenize(config)] == [60, 1]


def test_it_takes_the_config_file_and_the_fields_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    monkeypatch.setattr(tokenize_text, "tokenize", given.append)
    main(["configs/tiny.py", "--token_store", str(tmp_path), "--vocabulary", "bytes", "--num_processes", "3"])
    assert (given[0].token_store, given[0].vocabulary, given[0].num_processes) == (str(tmp_path), "bytes", 3)
    main(["configs/tiny.py", "--print_config"])
    assert '"num_processes"' in capsys.readouterr().out
    assert '"token_store": null' in to_json(as_tokenize(given[0], token_store=None))


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "t5like tokenize needs a config file first"),
        (["configs/tiny.py"], "t5like tokenize needs --token_store, the folder to keep the ids in."),
        (["configs/tiny.py", "--token_store", "x", "--num_processes", "0"], "num_processes"),
        (["configs/tiny.py", "--workdir", "x"], "t5like tokenize has no run to keep"),
        (["configs/finetune.py"], "gives a Finetune, but this command needs Pretrain"),
    ],
)
def test_what_cannot_work_is_one_sentence(argv: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        main(argv)
    assert sentence in str(refused.value)


def test_many_blocks_are_few_parts() -> None:
    assert [token_store.count_parts(n) for n in (1, 4096, 4097, 10_000, 2**20)] == [1, 4096, 2049, 2500, 4096]
