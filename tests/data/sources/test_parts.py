import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.data.sources import open_source, sample_texts, shuffle_blocks, split_source
from t5like.errors import DamagedDataError, UserError
from tests.data.fakes import Numbers


def _blocks(part):
    return [int(next(part.read(block)).partition(".")[0]) for block in range(part.num_blocks)]


def test_split_as_in_the_docstring():
    training, held_out = split_source(Numbers([1] * 5))
    assert (_blocks(training), _blocks(held_out)) == ([0, 1, 3, 4], [2])


@settings(deadline=None)
@given(st.integers(2, 2000))
def test_split_holds_out_two_percent_evenly_and_loses_nothing(num_blocks):
    training, held_out = map(_blocks, split_source(Numbers([1] * num_blocks)))
    assert sorted(training + held_out) == list(range(num_blocks))
    assert training == sorted(training)
    assert len(training) >= 1
    assert max(1, 0.02 * num_blocks - 1) <= len(held_out) <= max(1, 0.02 * num_blocks + 1)
    gaps = {b - a for a, b in itertools.pairwise(held_out)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_shuffled_blocks_are_all_there_in_an_order_of_the_seed():
    first, again, other = (_blocks(shuffle_blocks(Numbers([1] * 100), seed=seed)) for seed in (0, 0, 1))
    assert sorted(first) == list(range(100))
    assert first == again != other
    assert len(set(first[:10]) - set(range(20))) > 3  # from all over


def test_parts_are_places_and_digests_of_the_whole():
    training, held_out = split_source(Numbers([3] * 100))
    assert held_out.place(0, 2) == f"block {_blocks(held_out)[0]}, record 2"
    assert list(training.read(7, 2)) == ["7.2;"]
    assert training.digest(str) != held_out.digest(str)


def test_ten_million_blocks_are_split_at_once():
    training, held_out = split_source(Numbers(range(10_000_000)))
    assert training.num_blocks == 9_800_000
    assert held_out.num_blocks == 200_000
    assert training.place(training.num_blocks - 1, 0) == "block 9999999, record 0"


def test_a_single_block_cannot_be_split():
    with pytest.raises(UserError, match=r"numbers.*--validation_data"):
        split_source(Numbers([9]))


@pytest.mark.parametrize(("name", "block_bytes"), [("a.txt", 64 << 10), ("a.jsonl", 16 << 10)])
@pytest.mark.parametrize("part", ["to be held out", "to train on"])
def test_a_part_in_which_no_line_starts_is_told_with_the_file_and_what_to_do(
    tmp_path, name, block_bytes, part
):
    # Of two blocks the second is held out.
    text = "All unhappy families are unhappy in their own way. " * (block_bytes // 51)
    line = json.dumps({"text": text}) if name == "a.jsonl" else text
    line += " " * 99
    path = tmp_path / name
    path.write_text(line if part == "to be held out" else "\n" * block_bytes + line)
    with pytest.raises(
        UserError, match=f"The part of {path} {part} holds no text.*--validation_data"
    ) as caught:
        split_source(open_source(str(path)))
    assert not isinstance(caught.value, DamagedDataError)


def test_a_part_that_cannot_be_read_is_no_part_without_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\n" * 100_000 + b"text")
    training, held_out = split_source(open_source(str(tmp_path)))
    assert training.num_blocks + held_out.num_blocks == 4


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 3000))
def test_a_sample_is_in_order_and_of_the_length_asked_for_or_is_all(sizes, max_characters):
    source = Numbers(sizes)
    texts = [text for block in range(len(sizes)) for text in source.read(block)]
    sample = list(sample_texts(source, max_characters))
    assert sum(map(len, sample)) <= max_characters
    if sum(map(len, texts)) <= max_characters:
        assert sample == texts
    else:
        positions = [texts.index(text) for text in sample[:-1]]
        assert positions == sorted(positions)


def test_a_sample_is_spread_evenly_and_opens_few_blocks():
    source = Numbers([100] * 100_000)
    sample = list(sample_texts(source, 50_000))
    assert 49_000 < sum(map(len, sample)) <= 50_000
    blocks = sorted({int(text.partition(".")[0]) for text in sample if "." in text})
    gaps = [b - a for a, b in itertools.pairwise([0, *blocks, 100_000])]
    assert max(gaps) <= 100_000 / 256 + 1
    assert source.num_opened <= 512
