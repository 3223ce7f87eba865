"""The parameters of a checkpoint of T5X or Orbax come out by name and bit for bit, and nothing else does."""

import json
import shutil

import ml_dtypes
import msgpack
import numpy as np
import pytest
import tensorstore
from flax import serialization, traverse_util

from t5like.errors import UserError
from t5like.weights import open_t5x

BF16 = np.dtype(ml_dtypes.bfloat16)
PARAMETERS = {
    "token_embedder/embedding": ("f4", (12, 4)),
    "encoder/layers_0/attention/query/kernel": ("f4", (4, 6)),
    "encoder/layers_0/mlp/wi/kernel": (BF16, (4, 5)),
    "encoder/layers_0/scale": ("f4", (4,)),
    "encoder/relpos_bias/rel_embedding": (BF16, (2, 3)),
}
INLINE = {"encoder/layers_0/scale", "encoder/relpos_bias/rel_embedding"}


@pytest.fixture(scope="module")
def parameters(random_array):
    """Arrays by name, of random bits."""
    specs = enumerate(PARAMETERS.items())
    return {name: random_array(np.dtype(dtype), shape, seed) for seed, (name, (dtype, shape)) in specs}


def _nested(flat):
    return traverse_util.unflatten_dict(flat, sep="/")


def _write_zarr(folder, name, array, **kvstore):
    """Writes an array beside the tree, chunked and compressed as T5X does; returns the specification that stands for it."""
    chunks = [max(1, size // 2) if size % 2 == 0 else size for size in array.shape]
    metadata = {"compressor": {"id": "gzip"}, "shape": list(array.shape), "chunks": chunks}
    specification = {
        "driver": "zarr",
        "dtype": array.dtype.name,
        "kvstore": {"driver": "file", "path": f"{folder}/{name}"},
        "metadata": metadata,
    }
    store = tensorstore.open(specification, create=True, open=True).result()
    store.write(array).result()
    return specification | {"kvstore": {"driver": "file", "path": name} | kvstore}


def _write_t5x(
    folder,
    parameters,
    wrap=lambda target, state: {"version": 3, "optimizer": {"target": target, "state": state}},
):
    """Writes a checkpoint of T5X: large arrays beside the tree, small ones in it."""
    folder.mkdir()
    target = {
        name: array if name in INLINE else _write_zarr(folder, f"target.{name.replace('/', '.')}", array)
        for name, array in parameters.items()
    }
    moments = _write_zarr(
        folder, "state.param_states.token_embedder.embedding.v", np.ones((12, 4), np.float32)
    )
    state = {
        "step": np.int32(1000),
        "param_states": {
            "token_embedder": {"embedding": {"v": moments, "m": None}},
            "scale": {"v": np.ones(4)},
        },
    }
    tree = wrap(
        _nested(target),
        state,
    )
    (folder / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
    return folder


def _write_orbax(folder, tree, **options):
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**options)) as checkpointer:
        checkpointer.save(folder, tree)
    return folder


def _check_holds(folder, parameters, same_bits):
    with open_t5x(folder) as source:
        assert source.origin == str(folder)
        assert source.tensors == {name: (array.shape, array.dtype) for name, array in parameters.items()}
        assert all(same_bits(source.read(name), array) for name, array in parameters.items())


def _error(folder):
    with pytest.raises(UserError) as caught:
        open_t5x(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    assert "tensorstore_spec" not in message
    return message


@pytest.mark.parametrize(
    "wrap",
    [
        lambda target, state: {"version": 3, "optimizer": {"target": target, "state": state}},
        lambda target, state: {"optimizer": {"state": state, "target": target}, "version": 3},
        lambda target, state: {"target": target, "state": state},
        lambda target, state: {"target": {"params": target}, "flax_mutables": {}},
        lambda target, state: {"params": target, "opt_state": {"0": state}, "step": 7},
        lambda target, state: target,
    ],
)
def test_t5x(tmp_path, parameters, same_bits, wrap):
    folder = _write_t5x(tmp_path / "checkpoint_1000", parameters, wrap)
    _check_holds(folder, parameters, same_bits)
    assert open_t5x(str(folder / "checkpoint")).origin == str(folder)


@pytest.mark.parametrize(
    "kvstore",
    [
        {"driver": "gfile"},
        {"driver": "gcs", "bucket": "t5x-dummy-bucket"},
        {"path": "/where/it/was/written/target.a.b"},
        {"path": "target.a.b/"},
    ],
)
def test_t5x_from_elsewhere(tmp_path, kvstore):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    specification = _write_zarr(tmp_path, "target.a.b", array, **kvstore)
    early = specification | {"kvstore": {"driver": "file"}, "path": "target.a.b"}  # TensorStore before 0.1.14
    for leaf in (specification, early):
        (tmp_path / "checkpoint").write_bytes(serialization.msgpack_serialize({"target": {"a": {"b": leaf}}}))
        np.testing.assert_array_equal(open_t5x(tmp_path).read("a/b"), array)


@pytest.mark.parametrize("use_ocdbt", [True, False])
@pytest.mark.parametrize("use_zarr3", [True, False])
@pytest.mark.parametrize("wrapper", ["target", "params", None])
def test_orbax(tmp_path, parameters, same_bits, wrapper, use_ocdbt, use_zarr3):
    tree = _nested(parameters)
    if wrapper:
        tree = {wrapper: tree, "state": {"step": 3, "v": {"x": np.ones(3)}}, "opt_state": [np.ones(2), None]}
    folder = _write_orbax(tmp_path / "step", tree, use_ocdbt=use_ocdbt, use_zarr3=use_zarr3)
    _check_holds(folder, parameters, same_bits)


def test_orbax_standard_with_jax_arrays_lists_and_empty_nodes(tmp_path, same_bits):
    import jax.numpy as jnp
    import orbax.checkpoint as ocp

    tree = {
        "layers": [{"w": jnp.ones((2, 3), jnp.bfloat16)}, {"w": jnp.zeros(4)}],
        "none": None,
        "empty": {},
        "n": 3,
    }
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "step", {"params": tree})
    expected = {
        "layers/0/w": np.ones((2, 3), BF16),
        "layers/1/w": np.zeros(4, np.float32),
        "n": np.asarray(3),
    }
    _check_holds(tmp_path / "step", expected, same_bits)


def test_orbax_with_small_arrays_in_a_msgpack(tmp_path, parameters, same_bits):
    """As T5X wrote through the Orbax of 2023: with a file for the tree, with or without _METADATA."""
    large = {name: array for name, array in parameters.items() if name not in INLINE}
    tree = {"version": 3, "optimizer": {"target": _nested(large), "state": {"v": np.ones(3)}}}
    folder = _write_orbax(tmp_path / "step", tree, use_ocdbt=False)
    leaves = {
        name: array if name in INLINE else f"PLACEHOLDER://optimizer.target.{name.replace('/', '.')}"
        for name, array in parameters.items()
    }
    tree = {
        "version": 3,
        "optimizer": {"target": _nested(leaves), "state": {"v": "PLACEHOLDER://optimizer.state.v"}},
    }
    (folder / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
    _check_holds(folder, parameters, same_bits)
    (folder / "_METADATA").unlink()
    _check_holds(folder, parameters, same_bits)


def test_opening_reads_no_array_and_reading_one_at_a_time(tmp_path, peak_growth):
    shape = (6_000, 1_000)
    tree = {}
    for n in range(6):
        tree[str(n)] = _write_zarr(tmp_path, f"target.{n}", np.full(shape, n, np.float32))
    tree["inline"] = np.full(shape, 7, np.float32)
    (tmp_path / "checkpoint").write_bytes(serialization.msgpack_serialize({"target": tree}))
    growth = peak_growth(
        "from t5like.weights import open_t5x",
        f"source = open_t5x({str(tmp_path)!r})\n"
        "for name in source.tensors: assert source.read(name)[-1, -1] == int(name.replace('inline', '7'))",
    )
    assert growth < 4 * 24  # of 168; a busy machine frees late


def test_what_is_no_checkpoint_says_what_would_be(tmp_path, parameters):
    assert "there is no such folder" in _error(tmp_path / "gone")
    assert "it has neither checkpoint nor _METADATA" in _error(tmp_path)
    folder = _write_t5x(tmp_path / "checkpoint_1000", parameters)
    assert f"but {folder} in it is one" in _error(tmp_path)
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1000000"\n')
    assert "is a checkpoint of TensorFlow" in _error(folder)
    (folder / "checkpoint").write_bytes(serialization.msgpack_serialize({"target": {}, "state": None}))
    assert "without parameters" in _error(folder)


def test_damage_is_told_when_the_checkpoint_is_opened(tmp_path, parameters):
    folder = _write_t5x(tmp_path / "checkpoint_1000", parameters)
    array = folder / "target.encoder.layers_0.attention.query.kernel"
    (array / ".zarray").write_text("{")
    assert "the array encoder/layers_0/attention/query/kernel cannot be opened" in _error(folder)
    shutil.rmtree(array)
    assert "the array encoder/layers_0/attention/query/kernel cannot be opened" in _error(folder)
    content = (folder / "checkpoint").read_bytes()
    for length in range(0, len(content), 7):
        (folder / "checkpoint").write_bytes(content[:length])
        assert "checkpoint is truncated, damaged" in _error(folder)


@pytest.mark.parametrize(("use_ocdbt", "use_zarr3"), [(False, False), (False, True), (None, None)])
def test_a_missing_chunk_is_not_read_as_zeros(tmp_path, parameters, use_ocdbt, use_zarr3):
    if use_ocdbt is None:
        folder = _write_t5x(tmp_path / "step", parameters)
        array = folder / "target.token_embedder.embedding"
    else:
        tree = {"target": _nested(parameters)}
        folder = _write_orbax(tmp_path / "step", tree, use_ocdbt=use_ocdbt, use_zarr3=use_zarr3)
        array = folder / "target.token_embedder.embedding"
    chunk = sorted(
        path for path in array.rglob("*") if path.is_file() and path.name not in (".zarray", "zarr.json")
    )[0]
    content = chunk.read_bytes()
    source = open_t5x(folder)
    for damage in (lambda: chunk.write_bytes(content[: len(content) // 2]), chunk.unlink):
        damage()
        with pytest.raises(
            UserError, match=rf"{folder}: the tensor token_embedder/embedding cannot be read \("
        ) as caught:
            source.read("token_embedder/embedding")
        assert "\n" not in str(caught.value)
        assert source.read("encoder/layers_0/scale").shape == (4,)


def test_a_damaged_database_is_one_sentence(tmp_path, parameters):
    folder = _write_orbax(tmp_path / "step", {"target": _nested(parameters)})
    content = (folder / "manifest.ocdbt").read_bytes()
    (folder / "manifest.ocdbt").write_bytes(content[:-3])
    assert "cannot be opened" in _error(folder)
    (folder / "manifest.ocdbt").write_bytes(content)
    for data in [path for path in folder.rglob("d") if path.is_dir()]:
        shutil.rmtree(data)
    assert "cannot be opened" in _error(folder)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        "{}",
        '{"tree_metadata": []}',
        '{"tree_metadata": {"a": {}}}',
        '{"tree_metadata": {"a": {"key_metadata": [3], "value_metadata": {"value_type": "jax.Array"}}}}',
    ],
)
def test_damaged_metadata_are_one_sentence(tmp_path, content):
    (tmp_path / "_METADATA").write_text(content)
    assert "_METADATA is damaged" in _error(tmp_path)


@pytest.mark.parametrize(
    ("leaf", "words"),
    [
        (3, "at a/b, an object of type int, where an array belongs"),
        ("text", "at a/b, an object of type str, where an array belongs"),
        ([1, 2], "at a/b, an object of type list, where an array belongs"),
        (msgpack.ExtType(2, b""), "what cannot be read as an array"),
        (np.zeros(2, np.complex64), "it is of dtype complex64"),
        ({"driver": "zarr", "kvstore": {}}, "what cannot be read as an array"),
        ({"driver": "zarr", "kvstore": 3}, "what cannot be read as an array"),
        ({"driver": "zarr", "kvstore": {"driver": "file", "path": "gone"}}, "the array a/b cannot be opened"),
    ],
)
def test_leaves_that_are_no_arrays_are_named(tmp_path, leaf, words):
    tree = serialization.msgpack_serialize({"target": {"a": {"b": leaf}}, "state": 3})
    (tmp_path / "checkpoint").write_bytes(tree)
    assert words in _error(tmp_path)


@pytest.mark.parametrize("place", ["../outside", "a/../../outside", "..", "a\0b"])
def test_an_array_outside_of_the_checkpoint_is_not_read(tmp_path, place):
    specification = _write_zarr(tmp_path, "outside", np.ones(2, np.float32))
    assert specification["kvstore"]
    folder = tmp_path / "checkpoint_5"
    folder.mkdir()
    tree = {"target": {"x": f"PLACEHOLDER://{place}"}}
    (folder / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
    assert "it says that the array x is at" in _error(folder)
    (folder / "checkpoint").unlink()
    keys = [{"key": "target", "key_type": 2}, {"key": f"x/{place}", "key_type": 2}]
    entry = {"key_metadata": keys, "value_metadata": {"value_type": "jax.Array"}}
    (folder / "_METADATA").write_text(json.dumps({"tree_metadata": {"x": entry}}))
    assert "outside of it" in _error(folder)


def test_strings_in_orbax_and_other_dtypes_are_refused(tmp_path):
    folder = _write_orbax(tmp_path / "a", {"params": {"x": np.ones(2), "name": "t5"}})
    assert "at name, an object of type string, where an array belongs" in _error(folder)
    folder = _write_orbax(tmp_path / "b", {"params": {"x": np.ones(2, np.complex64)}})
    assert "the array x is of dtype complex64" in _error(folder)
    (tmp_path / "c").mkdir()
    specification = _write_zarr(
        tmp_path / "c", "target.x", np.ones(2, np.uint16)
    )  # bfloat16 in T5X's version 2
    (tmp_path / "c" / "checkpoint").write_bytes(
        serialization.msgpack_serialize({"target": {"x": specification}})
    )
    assert "the array x is of dtype uint16" in _error(tmp_path / "c")


def test_metadata_alone_names_what_the_database_lacks(tmp_path, parameters):
    folder = _write_orbax(tmp_path / "step", {"target": _nested(parameters)})
    metadata = json.loads((folder / "_METADATA").read_text())
    entry = next(iter(metadata["tree_metadata"].values()))
    keys = [{"key": "target", "key_type": 2}, {"key": "more", "key_type": 2}]
    metadata["tree_metadata"]["('target', 'more')"] = entry | {"key_metadata": keys}
    (folder / "_METADATA").write_text(json.dumps(metadata))
    assert "the array more cannot be opened" in _error(folder)
