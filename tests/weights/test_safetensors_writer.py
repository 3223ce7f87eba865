"""What is written is what the library of safetensors reads, and what it would have written itself; or nothing is."""

import json
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.errors import UserError
from t5like.weights import TensorToWrite, open_weights, write_safetensors
from t5like.weights.safetensors_writer import shard_names, split_into_shards
from t5like.weights.source import DTYPES

BF16 = np.dtype(ml_dtypes.bfloat16)
F32 = np.dtype(np.float32)

SPECIFICATIONS = st.dictionaries(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=8).filter(
        lambda name: name != "__metadata__"
    ),
    st.tuples(st.sampled_from(list(DTYPES.values())), st.lists(st.integers(0, 4), max_size=3).map(tuple)),
    max_size=6,
)


def _announce(arrays):
    return [(name, array.shape, array.dtype, lambda a=array: a) for name, array in arrays.items()]


def _files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@settings(deadline=None, max_examples=60)
@given(SPECIFICATIONS, st.integers(1, 200))
def test_what_is_written_is_read_bit_for_bit(
    tmp_path_factory, random_array, same_bits, specs, max_shard_bytes
):
    folder = tmp_path_factory.mktemp("weights") / "new" / "folder"
    arrays = {name: random_array(*spec, seed) for seed, (name, spec) in enumerate(specs.items())}
    write_safetensors(folder, _announce(arrays), max_shard_bytes=max_shard_bytes)
    with open_weights(folder) as source:
        assert source.tensors.keys() == arrays.keys()
        for name in sorted(arrays):
            assert source.tensors[name] == (arrays[name].shape, arrays[name].dtype)
            assert same_bits(source.read(name), arrays[name])


@settings(deadline=None, max_examples=40)
@given(SPECIFICATIONS, st.randoms())
def test_one_file_is_the_librarys_own_byte_for_byte(tmp_path_factory, random_array, specs, random):
    from safetensors.numpy import save

    # The library orders dtypes of one size in its own way; the order of the announcement makes no difference.
    arrays = {
        name: random_array(DTYPES["BF16"] if dtype.itemsize == 2 else F32, shape, seed)
        for seed, (name, (dtype, shape)) in enumerate(specs.items())
    }
    announced = _announce(arrays)
    random.shuffle(announced)
    folder = tmp_path_factory.mktemp("weights")
    write_safetensors(folder, announced)
    assert _files(folder) == {"model.safetensors": save(arrays, metadata={"format": "pt"})}


def test_a_file_as_in_the_docstring(tmp_path):
    write_safetensors(tmp_path, _announce({"x": np.ones(2, BF16)}), metadata={})
    header = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}} '
    expected = bytes([56, 0, 0, 0, 0, 0, 0, 0]) + header + bytes([128, 63, 128, 63])
    assert _files(tmp_path) == {"model.safetensors": expected}


def test_every_element_lies_at_a_multiple_of_its_size(tmp_path, random_array):
    dtypes = list(DTYPES.values())
    arrays = {str(n): random_array(dtype, (3,), n) for n, dtype in enumerate(dtypes + dtypes[::-1])}
    write_safetensors(tmp_path, _announce(arrays))
    content = (tmp_path / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    for name, array in arrays.items():
        assert header[name]["data_offsets"][0] % array.dtype.itemsize == 0


def test_shards_as_in_the_docstring():
    def tensors(*sizes):
        return [
            TensorToWrite(str(n), (size,), np.dtype(np.uint8), lambda: None) for n, size in enumerate(sizes)
        ]

    shards = split_into_shards(tensors(4, 4, 4, 12, 2), 10)
    assert [[tensor.num_bytes for tensor in shard] for shard in shards] == [[4, 4], [4], [12], [2]]
    assert split_into_shards([], 10) == [[]]
    assert shard_names(1) == ["model.safetensors"]
    assert shard_names(2) == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1), st.integers(1, 100))
def test_shards_keep_the_order_and_the_limit(sizes, limit):
    tensors = [
        TensorToWrite(str(n), (size,), np.dtype(np.uint8), lambda: None) for n, size in enumerate(sizes)
    ]
    shards = split_into_shards(tensors, limit)
    assert [tensor for shard in shards for tensor in shard] == tensors
    assert all(sum(t.num_bytes for t in shard) <= limit or len(shard) == 1 for shard in shards)


def test_the_index_names_shards_and_size_as_hugging_face_does(tmp_path, random_array):
    arrays = {name: random_array(F32, (4,), seed) for seed, name in enumerate("bac")}
    write_safetensors(tmp_path, _announce(arrays), max_shard_bytes=32, metadata={})
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    assert sorted(_files(tmp_path)) == [first, second, "model.safetensors.index.json"]
    assert json.loads((tmp_path / "model.safetensors.index.json").read_text()) == {
        "metadata": {"total_size": 48},
        "weight_map": {"a": first, "b": first, "c": second},
    }


@pytest.mark.parametrize("max_shard_bytes", [5_000_000_000, 20_000])
def test_transformers_loads_it(tmp_path, same_bits, max_shard_bytes):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 200}
    model = transformers.T5Model(transformers.T5Config(**sizes))
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    model.config.save_pretrained(tmp_path)
    write_safetensors(tmp_path, _announce(arrays), max_shard_bytes=max_shard_bytes)
    loaded, report = transformers.T5Model.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert all(same_bits(loaded.state_dict()[name].numpy(), array) for name, array in arrays.items())
    assert torch.equal(loaded.shared.weight, model.shared.weight)


def test_one_tensor_is_in_memory_at_a_time(tmp_path, peak_growth):
    growth = peak_growth(
        "import numpy as np; from t5like.weights import write_safetensors",
        f"write_safetensors({str(tmp_path)!r}, [(str(n), (6_000_000,), np.dtype('f4'),"
        " lambda n=n: np.full(6_000_000, n, 'f4')) for n in range(8)])",
    )
    assert (tmp_path / "model.safetensors").stat().st_size > 192_000_000
    assert growth < 2 * 24 + 8


def _fail():
    raise RuntimeError("no such parameter")


def _interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("tensor", "error", "message"),
    [
        (("b", (2,), F32, _fail), RuntimeError, "no such parameter"),
        (("b", (2,), F32, _interrupt), KeyboardInterrupt, None),
        (
            ("b", (2,), F32, lambda: np.zeros(3, F32)),
            ValueError,
            r"b was announced as float32\[2\] and is float32\[3\]",
        ),
        (("b", (2,), F32, lambda: np.zeros(2, ">f4")), ValueError, r"announced as float32\[2\] and is >f4"),
        (("b", (2,), BF16, lambda: np.zeros(2, np.float16)), ValueError, r"bfloat16\[2\] and is float16"),
        (("a", (2,), F32, lambda: np.zeros(2, F32)), ValueError, "tensor name a is there twice"),
        (("__metadata__", (2,), F32, lambda: np.zeros(2, F32)), ValueError, "reserved"),
        (("b", (2,), np.dtype(np.complex64), _fail), ValueError, "b is of dtype complex64, none of F64"),
        (("b", (2,), np.dtype(object), _fail), ValueError, "b is of dtype object, none of F64"),
    ],
)
@pytest.mark.parametrize("max_shard_bytes", [1, 1000])
def test_after_an_error_nothing_is_left(tmp_path, tensor, error, message, max_shard_bytes):
    (tmp_path / "config.json").write_text("{}")
    tensors = [*_announce({"a": np.zeros(2, np.float64), "c": np.zeros(2, F32)}), tensor]
    for folder in (tmp_path, tmp_path / "new" / "folder"):
        with pytest.raises(error, match=message):
            write_safetensors(folder, tensors, max_shard_bytes=max_shard_bytes)
        assert _files(tmp_path) == {"config.json": b"{}"}


def test_metadata_are_strings(tmp_path):
    with pytest.raises(ValueError, match="metadata are not strings"):
        write_safetensors(tmp_path / "new", [], metadata={"step": 3})
    assert not list(tmp_path.iterdir())


def test_an_error_of_make_stays_what_it_is(tmp_path):
    def vanished():
        raise OSError(2, "No such file or directory")

    with pytest.raises(OSError, match="No such file"):
        write_safetensors(tmp_path / "new", [("a", (2,), F32, vanished)])
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_sentence_and_nothing_is_left(tmp_path):
    with pytest.raises(UserError, match=rf"Cannot write to {tmp_path}/new: File too large\."):
        _limited_to(
            10_000, lambda: write_safetensors(tmp_path / "new", _announce({"a": np.zeros(4000, F32)}))
        )
    assert not list(tmp_path.iterdir())


def _limited_to(num_bytes, function):
    """Calls a function while no file may grow beyond a size, which looks as a full disk does."""
    import resource
    import signal

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        function()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_failed_rename_leaves_nothing(tmp_path, monkeypatch):
    replace, renamed = os.replace, []

    def fail_at_the_third(source, target):
        if len(renamed) == 2:
            raise OSError(5, "Input/output error")
        replace(source, target)
        renamed.append(target)

    monkeypatch.setattr("os.replace", fail_at_the_third)
    with pytest.raises(UserError, match="Input/output error"):
        write_safetensors(tmp_path, _announce({name: np.zeros(2, F32) for name in "abc"}), max_shard_bytes=8)
    assert len(renamed) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["model.safetensors", "model.safetensors.index.json", "model-00001-of-00003.safetensors"]
)
def test_weights_that_are_there_are_not_written_over(tmp_path, name):
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(UserError, match=rf"holds weights already, {name}; give another folder"):
        write_safetensors(tmp_path, _announce({"a": np.zeros(2, F32)}))
    assert _files(tmp_path) == {name: b"old"}


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(UserError, match="Not a directory"):
        write_safetensors(tmp_path / "file" / "folder", _announce({"a": np.zeros(2, F32)}))
    assert _files(tmp_path) == {"file": b"text"}


def test_what_a_killed_run_left_is_written_over(tmp_path):
    (tmp_path / ".model.safetensors.tmp").write_bytes(b"half")
    write_safetensors(tmp_path, _announce({"a": np.zeros(2, F32)}))
    assert list(_files(tmp_path)) == ["model.safetensors"]
    assert open_weights(tmp_path).tensors.keys() == {"a"}


def test_arrays_of_any_layout_are_written_in_c_order(tmp_path: Path):
    array = np.arange(12, dtype=F32).reshape(3, 4)
    views = {"t": array.T, "part": array[1:, ::2], "zero": array[:0], "scalar": array[0, 0].reshape(())}
    write_safetensors(tmp_path, _announce(views))
    source = open_weights(tmp_path)
    for name, view in views.items():
        np.testing.assert_array_equal(source.read(name), view)
