"""A file of torch.save is read bit for bit without torch, and nothing that it asks for is ever run."""

import io
import pickle
import random
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.errors import UserError
from t5like.weights import open_weights

FORMATS = ("zip", "stream")
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


def _save(saved, path, form="zip"):
    torch = pytest.importorskip("torch")
    torch.save(saved, path, _use_new_zipfile_serialization=form == "zip")
    return path


def _bits(tensor):
    """Returns a tensor's elements as the array that reading it should give."""
    torch = pytest.importorskip("torch")
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.contiguous().numpy()


def _error(path):
    with pytest.raises(UserError) as caught:
        open_weights(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


class _Global:
    """Pickles as the name of something, whatever that is."""

    def __init__(self, name):
        self.name = name


class _Call:
    """Pickles as a call of it."""

    def __init__(self, name, *arguments, state=None):
        self.function, self.arguments, self.state = _Global(name), arguments, state


class _Stored(tuple):
    """Pickles as what torch.save keeps apart: ("storage", type, key, device, number of elements, ...)."""


class _Pickler(pickle._Pickler):
    """Writes what no honest pickler would."""

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, _Global):
            module, _, name = obj.name.rpartition(".")
            self.write(b"c" + f"{module}\n{name}\n".encode())
        elif isinstance(obj, _Call):
            self.save(obj.function)
            self.save(tuple(obj.arguments))
            self.write(pickle.REDUCE)
            if obj.state is not None:
                self.save(obj.state)
                self.write(pickle.BUILD)
        elif isinstance(obj, _Stored):
            self.save(tuple(obj))
            self.write(pickle.BINPERSID)
        else:
            super().save(obj, save_persistent_id)


def _dumps(obj):
    stream = io.BytesIO()
    _Pickler(stream, protocol=2).dump(obj)
    return stream.getvalue()


def _zip(saved, storages, byteorder="little", compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("archive/data.pkl", saved if isinstance(saved, bytes) else _dumps(saved))
        archive.writestr("archive/byteorder", byteorder)
        archive.writestr("archive/version", "3")
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
    return stream.getvalue()


def _stream(saved, storages, little_endian=True):
    machine = {"protocol_version": VERSION, "little_endian": little_endian, "type_sizes": {"int": 4}}
    parts = [_dumps(part) for part in (MAGIC, VERSION, machine)]
    parts += [saved if isinstance(saved, bytes) else _dumps(saved), _dumps(list(storages))]
    parts += [(len(content) // 4).to_bytes(8, "little") + content for content in storages.values()]
    return b"".join(parts)


def _tensor(shape=(2,), strides=(1,), offset=0, key="0", num_elements=4, kind="torch.FloatStorage", rest=()):
    storage = _Stored(("storage", _Global(kind), key, "cpu", num_elements, *rest))
    hooks = _Call("collections.OrderedDict")
    return _Call("torch._utils._rebuild_tensor_v2", storage, offset, shape, strides, False, hooks)


FOUR = np.arange(4, dtype="<f4").tobytes()
WRITERS = {"zip": _zip, "stream": _stream}
VIEWS = {
    "whole": lambda t: t,
    "transposed": lambda t: t.transpose(0, 1),
    "part": lambda t: t[1:, ::2],
    "expanded": lambda t: t[:1].expand(4, *t.shape[1:]),
    "element": lambda t: t[1, 2],
    "none": lambda t: t[2:2],
}


@pytest.mark.parametrize("form", FORMATS)
@settings(deadline=None, max_examples=30)
@given(st.data())
def test_what_torch_saves_is_read_bit_for_bit(tmp_path_factory, same_bits, form, data):
    torch = pytest.importorskip("torch")
    dtypes = [
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
        torch.int8, torch.uint8, torch.bool,
    ]  # fmt: skip
    if form == "zip":
        dtypes += [torch.uint16, torch.uint32, torch.uint64]
    tensors = {}
    for n in range(data.draw(st.integers(1, 4))):
        base = torch.randint(0, 2**40, (3, 4, 2)).to(data.draw(st.sampled_from(dtypes)))
        for name in data.draw(st.sets(st.sampled_from(sorted(VIEWS)), min_size=1)):
            tensors[f"{n}.{name}"] = VIEWS[name](base)  # of one storage
    path = _save(tensors, tmp_path_factory.mktemp("torch") / "pytorch_model.bin", form)
    with open_weights(path) as source:
        assert source.tensors.keys() == tensors.keys()
        for name, tensor in tensors.items():
            expected = _bits(tensor)
            assert source.tensors[name] == (expected.shape, expected.dtype)
            assert same_bits(source.read(name), expected)
            assert source.read(name).flags.c_contiguous


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}]
)
def test_state_dicts_parameters_and_wrappers_are_read(tmp_path, same_bits, form, wrap):
    torch = pytest.importorskip("torch")
    layer = torch.nn.BatchNorm1d(3)
    saved = layer.state_dict()
    saved["parameter"] = torch.nn.Parameter(torch.randn(2, 2))
    saved["scalar"] = torch.tensor(2.5)
    source = open_weights(_save(wrap(saved), tmp_path / "x.pt", form))
    assert source.tensors.keys() == saved.keys()
    assert all(same_bits(source.read(name), _bits(tensor.detach())) for name, tensor in saved.items())


@pytest.mark.parametrize("form", FORMATS)
def test_shards_of_transformers_are_read(tmp_path, same_bits, form):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    import json

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = transformers.BertModel(transformers.BertConfig(vocab_size=50, **sizes))
    state = dict(model.state_dict())
    names = sorted(state)
    shards = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for shard, held in shards.items():
        _save({name: state[name] for name in held}, tmp_path / shard, form)
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    source = open_weights(tmp_path)
    assert source.tensors.keys() == state.keys()
    assert all(same_bits(source.read(name), _bits(tensor)) for name, tensor in state.items())
    (tmp_path / "pytorch_model-00002-of-00002.bin").unlink()
    assert "lacks the shard pytorch_model-00002-of-00002.bin" in _error(tmp_path)


@pytest.mark.parametrize("form", FORMATS)
def test_hand_made_files_are_read_as_torch_reads_them(tmp_path, form):
    """So that the tests below, whose files no torch would write, fail for their reason alone."""
    rest = {"rest": (None,) if form == "stream" else ()}
    saved = {
        "a": _tensor((2, 2), (1, 2), **rest),
        "b": _tensor((), (), 3, **rest),
        "c": _tensor((2,), (1,), 1, "7", **rest),
    }
    path = tmp_path / "x.bin"
    path.write_bytes(WRITERS[form](saved, {"0": FOUR, "7": FOUR}))
    source = open_weights(path)
    read = {name: source.read(name).tolist() for name in source.tensors}
    assert read == {"a": [[0, 2], [1, 3]], "b": 3, "c": [1, 2]}
    torch = pytest.importorskip("torch")
    assert {n: t.tolist() for n, t in torch.load(path, weights_only=True).items()} == read


def test_parts_of_storages_as_early_versions_saved_them_are_read(tmp_path):
    saved = {"a": _tensor((2,), (1,), rest=(("1", 2, 2),)), "b": _tensor((4,), (1,), rest=(None,))}
    (tmp_path / "x.bin").write_bytes(_stream(saved, {"0": FOUR}))
    source = open_weights(tmp_path / "x.bin")
    assert source.read("a").tolist() == [2, 3]
    assert source.read("b").tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda mark: _Call("posix.system", f"touch {mark}"), "posix.system"),
        (lambda mark: _Call("os.system", f"touch {mark}"), "os.system"),
        (lambda mark: _Call("builtins.eval", f"open({str(mark)!r}, 'w')"), "builtins.eval"),
        (lambda mark: _Call("__builtin__.eval", f"open({str(mark)!r}, 'w')"), "__builtin__.eval"),
        (lambda mark: _Call("pathlib.Path", str(mark)), "pathlib.Path"),
        (lambda mark: _Call("torch.load", str(mark)), "torch.load"),
        (
            lambda mark: _Call("torch._utils._rebuild_sparse_tensor", ()),
            "torch._utils._rebuild_sparse_tensor",
        ),
        (lambda mark: _Call("numpy.core.multiarray.scalar", b""), "numpy.core.multiarray.scalar"),
    ],
)
def test_a_pickle_that_would_run_something_runs_nothing(tmp_path, form, call, name):
    mark = tmp_path / "mark"
    for saved in (call(mark), {"a": _tensor(), "b": call(mark)}, [{"x": (call(mark),)}]):
        (tmp_path / "x.bin").write_bytes(WRITERS[form](saved, {"0": FOUR}))
        message = _error(tmp_path / "x.bin")
        assert f"would run {name} when it is read" in message
        assert "save its tensors as safetensors with a program you trust" in message
        assert not mark.exists()


def test_such_pickles_would_run_in_a_reader_that_lets_them(tmp_path):
    """Else the test above could not fail."""
    mark = tmp_path / "mark"
    pickle.loads(_dumps(_Call("posix.system", f"touch {mark}")))
    assert mark.exists()


def test_every_part_of_a_stream_is_guarded(tmp_path):
    mark = tmp_path / "mark"
    call = _dumps(_Call("posix.system", f"touch {mark}"))
    plain = [_dumps(part) for part in (MAGIC, VERSION, {"little_endian": True}, {"a": _tensor()}, ["0"])]
    for place in range(len(plain)):
        (tmp_path / "x.bin").write_bytes(b"".join([*plain[:place], call, *plain[place + 1 :]]))
        assert "would run posix.system" in _error(tmp_path / "x.bin")
    assert not mark.exists()


@pytest.mark.parametrize(
    "name",
    [
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        "collections.OrderedDict",
        "torch.Size",
    ],
)
def test_a_pickle_changes_nothing_in_what_it_may_call(tmp_path, name):
    def pickled(state):
        module, _, last = name.rpartition(".")
        return b"\x80\x02c" + f"{module}\n{last}\n".encode() + _dumps(state)[2:-1] + b"b."

    for state in (
        {"__call__": 1, "x": 1},
        ({}, {"__call__": 1}),
        ({}, {"__class__": 1}),
        ({"__new__": 1}, {"x": 1}),
    ):
        (tmp_path / "x.bin").write_bytes(_zip(pickled(state), {}))
        assert "damaged" in _error(tmp_path / "x.bin")
    (tmp_path / "x.bin").write_bytes(_zip({"a": _tensor()}, {"0": FOUR}))
    assert open_weights(tmp_path / "x.bin").read("a").tolist() == [0, 1]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ({"a": _tensor((5,))}, "beyond its storage"),
        ({"a": _tensor((2,), (4,))}, "beyond its storage"),
        ({"a": _tensor((2,), (1,), 3)}, "beyond its storage"),
        ({"a": _tensor((2,), (-1,), 3)}, "no plain layout"),
        ({"a": _tensor((2,), (1,), -1)}, "no plain layout"),
        ({"a": _tensor((2.0,), (1,))}, "no plain layout"),
        ({"a": _tensor((2, 2), (1,))}, "no plain layout"),
        ({"a": _tensor((2,), 1)}, "damaged"),
        ({"a": _tensor(rest=(("1", 3, 2),))}, "beyond its storage"),
        ({"a": _tensor(rest=(("1", 0.5, 2),))}, "beyond its storage"),
        ({"a": _tensor(num_elements=-4)}, "a storage is not described as one"),
        ({"a": _tensor(), "b": _tensor(num_elements=5)}, "the storage 0 has two sizes"),
        ({"a": _tensor(kind="torch.ComplexFloatStorage")}, "holds tensors of torch.ComplexFloatStorage"),
        ({"a": _tensor(kind="torch.QInt8Storage")}, "holds tensors of torch.QInt8Storage"),
        ({"a": _Stored(("module", "x", "y", "z"))}, "damaged"),
        ({"a": _Global("torch.float8_e4m3fn")}, "holds tensors of torch.float8_e4m3fn"),
        ({"a": _tensor(), "b": 3}, "the entry 'b' is an object of type int and no tensor"),
        ({"a": {"b": _tensor()}}, "the entry 'a' is an object of type dict"),
        (
            {"a": {"b": _tensor()}, "b": _Call("collections.OrderedDict")},
            "the entry 'a' is an object of type dict",
        ),
        ({3: _tensor()}, "the entry 3"),
        ({"state_dict": {"a": [_tensor()]}}, "the entry 'a' is an object of type list"),
        ([_tensor()], "no tensors by name"),
        (_tensor(), "no tensors by name"),
        ({"model": {}, "a": _tensor()}, "no tensors by name"),
    ],
)
def test_what_is_no_plain_state_dict_is_one_sentence(tmp_path, form, saved, words):
    (tmp_path / "x.bin").write_bytes(WRITERS[form](saved, {"0": FOUR}))
    assert words in _error(tmp_path / "x.bin")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "truncated"),
        (b"plain text, saved by mistake", "not what torch.save writes"),
        (b"<!DOCTYPE html>", "not what torch.save writes"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
        (pickle.dumps({"a": 1}), "magic number"),
        (_dumps(MAGIC) + _dumps(1000), "magic number"),
        (_zip({"a": _tensor()}, {"0": FOUR}, byteorder="big"), "big-endian"),
        (_stream({"a": _tensor()}, {"0": FOUR}, little_endian=False), "big-endian"),
        (_zip({"a": _tensor()}, {}), "the storage 0 is missing or too short"),
        (_zip({"a": _tensor()}, {"0": FOUR[:-1]}), "the storage 0 is missing or too short"),
        (
            _zip({"a": _tensor()}, {"0": bytes(16)}, compression=zipfile.ZIP_DEFLATED),
            "data.pkl is compressed",
        ),
        (_zip(b"\x80\x02}r\xff\xff\xff\x7f.", {}), "its memo has gaps"),  # 16 GiB, of zeros
        (_stream(b"\x80\x02}p2147483647\n.", {}), "its memo has gaps"),
        (_zip({"a": _tensor()}, {"0": FOUR}).replace(b"data.pkl", b"data.pki"), "has no data.pkl"),
        (_stream({"a": _tensor()}, {}), "list of storages"),
        (_stream({"a": _tensor()}, {"0": FOUR, "1": FOUR}), "list of storages"),
        (_stream({"a": _tensor()}, {"0": FOUR + FOUR}), "the size of the storage 0"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, content, words):
    (tmp_path / "x.bin").write_bytes(content)
    assert words in _error(tmp_path / "x.bin")


@pytest.mark.parametrize("form", FORMATS)
def test_every_truncation_is_told_at_once(tmp_path, form):
    content = WRITERS[form]({"a": _tensor(), "b": _tensor(key="1")}, {"0": FOUR, "1": FOUR})
    for length in range(len(content)):
        (tmp_path / "x.bin").write_bytes(content[:length])
        assert "download it again" in _error(tmp_path / "x.bin")


@pytest.mark.parametrize("form", FORMATS)
def test_whatever_is_damaged_runs_nothing_and_raises_nothing_else(tmp_path, form):
    content = WRITERS[form]({"a": _tensor(), "b": _tensor(key="1")}, {"0": FOUR, "1": FOUR})
    rng = random.Random(0)
    for _ in range(1500):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        (tmp_path / "x.bin").write_bytes(damaged)
        try:
            source = open_weights(tmp_path / "x.bin")
            for name, info in source.tensors.items():
                assert source.read(name).shape == info.shape
        except UserError:
            pass


@pytest.mark.parametrize("form", FORMATS)
def test_reading_takes_the_memory_of_one_tensor(tmp_path, peak_growth, form):
    torch = pytest.importorskip("torch")
    _save(
        {str(n): torch.full((6_000_000,), float(n)) for n in range(8)}, tmp_path / "pytorch_model.bin", form
    )
    growth = peak_growth(
        "from t5like.weights import open_weights",
        f"source = open_weights({str(tmp_path)!r})\n"
        "for name in source.tensors: assert (source.read(name) == int(name)).all()",
    )
    assert growth < 2 * 24 + 8 + 6  # the comparison's own
