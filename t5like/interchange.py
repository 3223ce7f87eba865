"""Between public arrays and our parameters, one array at a time: what goes where, decided before anything is read.

Our parameters are named by their path with the layer apart, `("encoder/layers/mlp/wi/kernel", 3)`, whether the model
scans its layers or not.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec

from t5like.errors import UserError
from t5like.families.base import Family, PublicTensor
from t5like.models.config import Head, TransformerConfig
from t5like.models.transformer import Transformer, init_params
from t5like.sharding import AxisRules
from t5like.weights.source import TensorSource

PyTree = Any
Place = tuple[str, int | None]
"""One array of ours: its path, and its layer where the path holds `layers`."""

HEAD_PATH = "classifier/"
"""What the paths of a head's own arrays begin with, but for those of a language model."""

_UNROLLED = re.compile(r"/layers_(\d+)/")
_NUM_NAMED = 3  # names that a message lists before it only counts


class Line(NamedTuple):
    """What becomes of one array."""

    fate: Literal["loaded", "renamed", "initialised", "dropped"]
    public: str
    ours: str
    remark: str = ""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an import does with each array of a checkpoint and of our model.

    Attributes:
      lines: one for each array, in the order of the public checkpoint.
      sources: for each array of ours that is loaded, the public array and its name in the checkpoint.
    """

    lines: list[Line]
    sources: Mapping[Place, tuple[PublicTensor, str]]

    def count(self, fate: str) -> int:
        """Returns how many arrays have this fate."""
        return sum(line.fate == fate for line in self.lines)


def place_of(path: str) -> Place:
    """Returns our name of an array of an unrolled model: layers_3/mlp/... -> layers/mlp/..., 3."""
    layers = _UNROLLED.findall(path)
    return _UNROLLED.sub("/layers/", path), int(layers[0]) if layers else None


@functools.cache
def shapes_of(config: TransformerConfig) -> dict[Place, tuple[int, ...]]:
    """Returns the shape of every array of a model, layer by layer."""
    model = Transformer(dataclasses.replace(config, scans_layers=False), AxisRules())
    boxed = jax.eval_shape(functools.partial(init_params, model), jax.random.key(0))
    return {place_of(path): leaf.shape for path, leaf in flatten(boxed)}


def flatten(params: PyTree) -> Iterator[tuple[str, Any]]:
    """Yields the path and the array of each parameter, boxes of axis names opened."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        yield "/".join(key.key for key in path if isinstance(key, jax.tree_util.DictKey)), leaf


def public_shape(tensor: PublicTensor, shapes: Mapping[Place, tuple[int, ...]]) -> tuple[int, ...]:
    """Returns the shape of a public array that is made of ours."""
    parts = [shapes[path, tensor.layer] for path in tensor.paths]
    shape = (*parts[0][:-1], sum(part[-1] for part in parts))
    shape = shape[::-1] if tensor.is_transposed else shape
    return (1, *shape) if tensor.has_leading_axis else shape


def plan_import(family: Family, config: TransformerConfig, source: TensorSource) -> Plan:
    """Returns what becomes of each array, having compared names and shapes; reads the copies among them.

    Raises:
      UserError: an array of the model's body is missing, has another shape, or differs from its own copy; or the
        checkpoint holds one that nothing here knows.
    """
    wanted = {family.bare(tensor.name): tensor for tensor in family.tensors(config)}
    found, dropped = _claim(family, config, source, wanted.keys())
    needed = [tensor.name for bare, tensor in wanted.items() if bare not in found and not tensor.is_head]
    if needed:
        raise UserError(
            f"{source.origin} lacks {_listed(needed)}; it is no whole {family.name} model of the size its config.json "
            "gives."
        )
    shapes = shapes_of(config)
    lines: list[Line] = []
    sources: dict[Place, tuple[PublicTensor, str]] = {}
    for bare, tensor in wanted.items():
        ours = " + ".join(tensor.paths) + ("" if tensor.layer is None else f" [{tensor.layer}]")
        if bare not in found:
            lines.append(Line("initialised", tensor.name, ours, "the checkpoint has none"))
            continue
        name = found[bare]
        shape, expected = tuple(source.tensors[name].shape), public_shape(tensor, shapes)
        if shape != expected:
            raise UserError(
                f"{name} in {source.origin} has the shape {list(shape)}, but its config.json makes it {list(expected)}."
            )
        is_renamed = family.bare(name) != bare
        lines.append(
            Line("renamed" if is_renamed else "loaded", name, ours, f"for {bare}" if is_renamed else "")
        )
        sources |= {(path, tensor.layer): (tensor, name) for path in tensor.paths}
    lines += [Line("dropped", name, "", why) for name, why in dropped.items()]
    return Plan(lines, sources)


def _claim(
    family: Family, config: TransformerConfig, source: TensorSource, wanted: Collection[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the name in the checkpoint of each wanted bare name that it has, and why each other name is dropped.

    Raises:
      UserError: nothing claims a name, or a copy differs from its original.
    """
    found: dict[str, str] = {}
    copies: dict[str, str] = {}  # name in the checkpoint -> bare name of the wanted array it stands for
    dropped: dict[str, str] = {}
    unknown: list[str] = []
    of_other_heads = _names_of_other_heads(family, config)
    for name in source.tensors:
        bare, meant = family.bare(name), family.canonical(name)
        if bare in wanted and bare not in found:
            found[bare] = name
        elif bare in wanted:  # with and without the prefix
            copies[name] = bare
        elif bare in of_other_heads and config.head != "language_model":
            dropped[name] = f"of another head than {config.head}"
        elif meant in wanted:
            copies[name] = meant
        elif family.is_ignored(name):
            dropped[name] = "holds nothing a model needs"
        elif bare in of_other_heads or meant in of_other_heads:
            dropped[name] = f"of another head than {config.head}"
        else:
            unknown.append(name)
    if unknown:
        raise UserError(
            f"{source.origin} holds {_listed(unknown)}, which no {family.name} model has; it is of another family, or "
            "of a kind t5like does not know."
        )
    for name, bare in copies.items():
        if bare not in found:
            found[bare] = name
        else:
            _check_is_copy(source, name, found[bare])
            dropped[name] = f"a copy of {found[bare]}"
    return found, dropped


def _names_of_other_heads(family: Family, config: TransformerConfig) -> set[str]:
    """Returns the bare names that a model of this family and size has with any head."""
    names: set[str] = set()
    head: Head
    for head in family.classes:
        other = dataclasses.replace(
            family.with_all_stacks(dataclasses.replace(config, predicts_next_sentence=False)),
            head=head,
            num_labels=config.num_labels or 1,
            has_pooler_without_head=True,
            head_is_tied=False,
            head_has_bias=True,
            transforms_head=True,
        )
        if head == "language_model" and other.last_stack == "encoder":
            other = dataclasses.replace(other, predicts_next_sentence=True)
        names |= {family.bare(tensor.name) for tensor in family.tensors(other)}
    return names


def _check_is_copy(source: TensorSource, name: str, original: str) -> None:
    if not np.array_equal(source.read(name), source.read(original)):
        raise UserError(
            f"{name} in {source.origin} should be a copy of {original}, but differs from it; t5like has one array for both."
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NUM_NAMED} more" if len(names) > _NUM_NAMED else ""
    return ", ".join(names[:_NUM_NAMED]) + more


def import_params(
    plan: Plan, source: TensorSource, model: Transformer, abstract_params: PyTree, *, seed: int = 0
) -> PyTree:
    """Returns the parameters on the devices, float32, holding at most one array of them on the host at a time.

    Args:
      abstract_params: shape and sharding of each, scanned or not.
      seed: of the arrays that the plan initialises.
    """
    read = _reader(source)
    sources = {path for path, _ in plan.sources}
    loaded = [path for path, _ in flatten(abstract_params) if place_of(path)[0] in sources]
    drawn = draw_others(model, abstract_params, loaded, seed=seed)

    def build(path: str, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if path in drawn:
            return drawn[path]
        array = np.empty(leaf.shape, leaf.dtype)
        for layer, part in _parts(path, array):
            tensor, name = plan.sources[layer]
            part[...] = our_part(tensor, layer[0], read(name), part.shape[-1])
        # Every host reads the whole array, and keeps what its devices hold.
        return jax.make_array_from_callback(array.shape, leaf.sharding, array.__getitem__)

    leaves, structure = jax.tree.flatten(abstract_params)
    paths = [path for path, _ in flatten(abstract_params)]
    return jax.tree.unflatten(
        structure, [build(path, leaf) for path, leaf in zip(paths, leaves, strict=True)]
    )


def with_new_head(
    config: TransformerConfig,
    abstract_params: PyTree,
    restore: Callable[[PyTree], PyTree],
    saved: TransformerConfig,
    *,
    seed: int,
) -> PyTree:
    """Returns the parameters of a model that has all but its head from another one.

    Where only that one's labels had no names the head is its as well.

    Args:
      config: of the model.
      abstract_params: shape and sharding of each of its parameters.
      restore: from shapes and shardings to the parameters of the other one.
      saved: the config of the other one.
      seed: of the head.
    """
    wanted = dict(flatten(abstract_params))
    is_own_head = config.head == saved.head and saved.label_names in ((), config.label_names)
    everywhere = NamedSharding(next(iter(wanted.values())).sharding.mesh, PartitionSpec())
    boxed = jax.eval_shape(functools.partial(init_params, Transformer(saved)), jax.random.key(0))

    def as_wanted(path: str, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        is_shared = path in wanted and wanted[path].shape == leaf.shape
        sharding = wanted[path].sharding if is_shared else everywhere
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    leaves, structure = jax.tree.flatten(nn.unbox(boxed))
    paths = [path for path, _ in flatten(boxed)]
    abstract = [as_wanted(path, leaf) for path, leaf in zip(paths, leaves, strict=True)]
    restored = dict(flatten(restore(jax.tree.unflatten(structure, abstract))))
    shared = {
        path: leaf
        for path, leaf in restored.items()
        if path in wanted
        and wanted[path].shape == leaf.shape
        and (is_own_head or not path.startswith(HEAD_PATH))
    }
    known = shared | draw_others(Transformer(config), abstract_params, shared, seed=seed)
    return jax.tree.unflatten(jax.tree.structure(abstract_params), [known[path] for path in wanted])


def _parts(path: str, array: np.ndarray) -> Iterator[tuple[Place, np.ndarray]]:
    """Yields the arrays of ours that a parameter holds, one a layer where it is scanned."""
    if "/layers/" not in path:
        yield place_of(path), array
        return
    for layer in range(len(array)):
        yield (path, layer), array[layer]


def _reader(source: TensorSource) -> Callable[[str], np.ndarray]:
    """Returns a function that reads an array, and keeps the last for those of ours that share it."""
    return functools.lru_cache(maxsize=1)(source.read)


def our_part(tensor: PublicTensor, path: str, public: np.ndarray, width: int) -> np.ndarray:
    """Returns what a public array holds of ours, `width` wide, in our layout; a view where that can be."""
    array = public[0] if tensor.has_leading_axis else public
    array = array.T if tensor.is_transposed else array
    start = tensor.paths.index(path) * width
    return array[..., start : start + width]


def draw_others(
    model: Transformer, abstract_params: PyTree, loaded: Collection[str], *, seed: int
) -> dict[str, jax.Array]:
    """Returns new values, by path, of the parameters that are not loaded.

    Args:
      loaded: paths.
    """
    shardings = {path: leaf.sharding for path, leaf in flatten(abstract_params) if path not in loaded}
    if not shardings:
        return {}

    @functools.partial(jax.jit, out_shardings=shardings)
    def draw(key: jax.Array) -> dict[str, jax.Array]:
        # The compiler leaves out all that is not returned.
        return {path: leaf for path, leaf in flatten(init_params(model, key)) if path in shardings}

    return draw(jax.random.key(seed))


def export_arrays(
    family: Family, config: TransformerConfig, params: PyTree, dtype: np.dtype
) -> list[tuple[str, tuple[int, ...], np.dtype, Callable[[], np.ndarray]]]:
    """Returns name, shape, dtype and maker of every public array, made only when its turn comes.

    Args:
      params: concrete, scanned or not.
    """
    shapes = shapes_of(config)
    leaves = dict(flatten(params))

    def ours(path: str, layer: int | None) -> np.ndarray:
        if layer is None:
            return np.asarray(jax.device_get(leaves[path]))
        if path in leaves:
            return np.asarray(jax.device_get(leaves[path][layer]))
        return np.asarray(jax.device_get(leaves[path.replace("/layers/", f"/layers_{layer}/")]))

    def make(tensor: PublicTensor) -> np.ndarray:
        array = np.concatenate([ours(path, tensor.layer) for path in tensor.paths], axis=-1)
        array = array.T if tensor.is_transposed else array
        return np.ascontiguousarray(array[None] if tensor.has_leading_axis else array, dtype)

    return [
        (tensor.name, public_shape(tensor, shapes), dtype, functools.partial(make, tensor))
        for tensor in family.tensors(config)
    ]
