"""Records that grow while a run does."""

from pathlib import Path
from typing import Any

import pytest

from t5like.errors import UserError
from t5like.record_lines import read_record


def parse(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError("not an object")
    return row


def read(path: Path) -> list[dict[str, Any]]:
    return [line.row for line in read_record(path, parse, row_of="a diary", remedy="mend it")]


def test_a_record_is_its_whole_lines_in_order(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n{"step": 3')
    assert read(path) == [{"step": 1}, {"step": 2}]


def test_the_text_of_all_lines_is_the_file(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    content = '{"a":   1}\n{"b": "ä"}\n'
    path.write_text(content, encoding="utf-8")
    assert "".join(line.text for line in read_record(path, parse, row_of="a diary", remedy="")) == content


@pytest.mark.parametrize("line", [b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "record.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b"\n")
    with pytest.raises(UserError, match=r"line 2 of .*record\.jsonl is not a row of a diary .*: mend it\."):
        read(path)


def test_a_record_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "record.jsonl")
