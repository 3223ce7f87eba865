"""What a family is: the knobs that its public configs stand for, and the public names of its arrays.

A family is one file beside this one: presets of `TransformerConfig`, and a `Family` that goes both ways between our
configs and arrays and the public ones, which are those of Hugging Face Transformers.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from t5like.batch import SpecialTokens
from t5like.errors import UserError
from t5like.models.config import Head, TransformerConfig
from t5like.weights.source import TensorSource

PublicConfig = Mapping[str, Any]

# What a model computes with and how it is trained, not what it is: public configs say nothing of it.
NOT_PUBLIC = (
    "compute_dtype",
    "attention",
    "scans_layers",
    "unrolls_scan",
    "remat",
    "remat_names",
    "dropout_rate",
    "dropout_spots",
    "shares_dropout",
    "init_stddev",
    "predicts_next_sentence",
    "has_pooler_without_head",
)

# Knobs that say nothing in models without what they are about.
_OF_LANGUAGE_MODEL = ("head_is_tied", "scales_tied_head", "head_has_bias", "transforms_head")
_OF_LEARNED_POSITIONS = ("num_positions", "position_offset", "positions_skip_padding")
_OF_RELATIVE_POSITIONS = ("num_relative_buckets", "max_relative_distance")


class PublicTensor(NamedTuple):
    """One array of a public checkpoint, made of one or several of ours."""

    name: str
    paths: tuple[str, ...]
    """Ours, such as `encoder/layers/mlp/wi/kernel`; several are joined along the last axis, as we store them."""
    layer: int | None = None
    """Which layer of the stack, where the path holds `layers`."""
    is_transposed: bool = False
    """True where the public array is [outputs, inputs], as PyTorch's linear maps are."""
    has_leading_axis: bool = False
    """True where the public array has one more axis, of size 1, before ours."""
    is_head: bool = False
    """True where a model may go without: a new head is drawn where a checkpoint has none."""


class NameTable:
    """Collects the public tensors of a model, with methods for what layers are made of."""

    def __init__(self, prefix: str = "") -> None:
        """Starts an empty table; `prefix` comes before the names of the body, but not before those of heads."""
        self.tensors: list[PublicTensor] = []
        self._prefix = prefix

    def array(self, name: str, path: str, *, layer: int | None = None, **layout: bool) -> None:
        """Adds one array of the body, laid out as `PublicTensor` says."""
        self.tensors.append(PublicTensor(self._prefix + name, (path,), layer, **layout))

    def dense(
        self,
        name: str,
        *paths: str,
        layer: int | None = None,
        has_bias: bool,
        is_conv: bool = False,
        is_head: bool = False,
    ) -> None:
        """Adds a linear map of the body.

        Args:
          is_conv: the public kernel is [inputs, outputs] like ours.
          is_head: it is named like the body, but models may go without.
        """
        self._dense(self._prefix + name, paths, layer, has_bias, is_conv, is_head)

    def norm(self, name: str, path: str, *, layer: int | None = None, has_bias: bool) -> None:
        """Adds a norm of the body."""
        self._norm(self._prefix + name, path, layer, has_bias)

    def head_array(self, name: str, path: str, **layout: bool) -> None:
        """Adds one array of a head."""
        self.tensors.append(PublicTensor(name, (path,), None, is_head=True, **layout))

    def head_dense(self, name: str, path: str, *, has_bias: bool = True) -> None:
        """Adds a linear map of a head."""
        self._dense(name, (path,), None, has_bias, False, is_head=True)

    def head_norm(self, name: str, path: str) -> None:
        """Adds a layer norm of a head."""
        self._norm(name, path, None, True, is_head=True)

    def _dense(
        self,
        name: str,
        paths: tuple[str, ...],
        layer: int | None,
        has_bias: bool,
        is_conv: bool,
        is_head: bool = False,
    ) -> None:
        kernels, biases = (tuple(f"{path}/{part}" for path in paths) for part in ("kernel", "bias"))
        self.tensors.append(PublicTensor(f"{name}.weight", kernels, layer, not is_conv, is_head=is_head))
        if has_bias:
            self.tensors.append(PublicTensor(f"{name}.bias", biases, layer, is_head=is_head))

    def _norm(self, name: str, path: str, layer: int | None, has_bias: bool, is_head: bool = False) -> None:
        self.tensors.append(PublicTensor(f"{name}.weight", (f"{path}/scale",), layer, is_head=is_head))
        if has_bias:
            self.tensors.append(PublicTensor(f"{name}.bias", (f"{path}/bias",), layer, is_head=is_head))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """How one family of public checkpoints and our models become one another.

    Attributes:
      name: as users know it.
      model_types: values of `model_type` in public configs.
      prefix: what public names of the body begin with in checkpoints that have a head, and may lack in others.
      classes: what the names of the public classes end with, by our head; a config that names no class means the
        first head. The first class of a head is what exports name.
      read_config: (public config, head, the checkpoint or None) -> our config.
      write_config: (our config, special tokens) -> public config, its `model_type` and `architectures` too.
      tensors: our config -> every array of the public checkpoint, in its usual order.
      aliases: other names, pattern -> canonical name, of arrays that `tensors` names: copies and former names.
      ignored: patterns of names that hold nothing a model needs.
      with_all_stacks: our config -> the same with the stack that some heads go without.
    """

    name: str
    model_types: tuple[str, ...]
    classes: Mapping[Head, tuple[str, ...]]
    read_config: Callable[[PublicConfig, Head, TensorSource | None], TransformerConfig]
    write_config: Callable[[TransformerConfig, SpecialTokens], dict[str, Any]]
    tensors: Callable[[TransformerConfig], list[PublicTensor]]
    prefix: str = ""
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    with_all_stacks: Callable[[TransformerConfig], TransformerConfig] = lambda config: config

    def bare(self, name: str) -> str:
        """Returns a public name without the family's prefix: `bert.pooler.dense.weight` -> `pooler.dense.weight`."""
        return name.removeprefix(self.prefix)

    def canonical(self, name: str) -> str:
        """Returns the bare name that a public name, perhaps an alias, stands for."""
        bare = self.bare(name)
        for pattern, meant in self.aliases.items():
            if re.fullmatch(pattern, bare):
                return re.sub(pattern, meant, bare)
        return bare

    def is_ignored(self, name: str) -> bool:
        """Returns whether a public name holds nothing a model needs."""
        return any(re.fullmatch(pattern, self.bare(name)) for pattern in self.ignored)

    def head_of(self, public: PublicConfig) -> Head:
        """Returns the head that a public config names by a class, the family's first where it names none.

        Raises:
          UserError: it names a class that we have no head for.
        """
        named = public.get("architectures") or ()
        for architecture in (named,) if isinstance(named, str) else named:
            # Of the classes whose end it could have, the longest: T5EncoderModel is no T5Model. Earlier heads first.
            ends = [
                (len(end), -number, head)
                for number, (head, classes) in enumerate(self.classes.items())
                for end in classes
                if re.fullmatch(rf"[A-Za-z0-9]+{end}", architecture)
            ]
            length, _, head = max(ends, default=(0, 0, next(iter(self.classes))))
            if ends and not architecture[:-length].endswith(("LMHead", "DoubleHeads")):
                return head
            raise UserError(
                f"config.json names the class {architecture}, which t5like has no head for; it has "
                f"{', '.join(self.classes)}, of which --head of t5like convert takes one."
            )
        return next(iter(self.classes))


def activation(public: PublicConfig, key: str, family: str) -> Any:
    """Returns our name of the activation that a public config names.

    Raises:
      UserError: we have none that is the same.
    """
    names = {
        "relu": "relu",
        "gelu": "gelu_exact",
        "gelu_new": "gelu",
        "gelu_pytorch_tanh": "gelu",
        "silu": "silu",
        "swish": "silu",
    }
    given = public.get(key, "gelu")
    if given not in names:
        raise UserError(
            f"This {family} model has the activation {given!r:.60}; t5like knows {', '.join(names)}."
        )
    return names[given]


def public_activation(name: str) -> str:
    """Returns the public name of one of our activations."""
    return {"relu": "relu", "gelu_exact": "gelu", "gelu": "gelu_new", "silu": "silu"}[name]


def require(public: PublicConfig, family: str, **expected: Any) -> None:
    """Returns if each setting, where the config has it, is one of those that our models have.

    Raises:
      UserError: naming the first that is not.
    """
    for key, value in expected.items():
        if public.get(key, value) != value:
            raise UserError(
                f"This {family} model has {key} {public[key]!r:.60} in its config.json; t5like knows {value!r} alone."
            )


def number(public: PublicConfig, key: str) -> int:
    """Returns a size from a public config.

    Raises:
      UserError: it is missing, or no whole number above 0.
    """
    value = public.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"config.json must give {key} as a whole number above 0, but gives {value!r:.60}.")
    return value


_MOST_LABELS = 1_000_000  # each of which has a name


def num_labels(public: PublicConfig, head: Head) -> int:
    """Returns how many labels a public classifier or tagger tells apart, 0 for other heads."""
    if head not in ("sequence_classification", "token_tagging"):
        return 0
    given = public.get("num_labels")
    if given is None and isinstance(public.get("id2label"), Mapping):
        return len(public["id2label"])
    count = 2 if given is None else number(public, "num_labels")
    if count > _MOST_LABELS:
        raise UserError(f"num_labels is {str(count)[:20]}, but can be at most {_MOST_LABELS:,}.")
    return count


def label_names(public: PublicConfig, head: Head) -> tuple[str, ...]:
    """Returns what a public classifier or tagger calls its labels, by number; none of other heads.

    Where that is not said they are LABEL_0, LABEL_1, ..., as the public code has it.

    Raises:
      UserError: names are given for other numbers than 0, 1, ...
    """
    numbers = [str(number) for number in range(num_labels(public, head))]
    given = public.get("id2label")
    if not isinstance(given, Mapping) or len(given) != len(numbers):
        return tuple(f"LABEL_{number}" for number in numbers)
    names = {str(number): str(name) for number, name in given.items()}
    if missing := [number for number in numbers if number not in names]:
        raise UserError(
            f"id2label in config.json gives {len(numbers)} names, but none for {missing[0]}; number them 0 to "
            f"{len(numbers) - 1}."
        )
    return tuple(names[number] for number in numbers)


def is_same_model(config: TransformerConfig, other: TransformerConfig) -> bool:
    """Returns whether two configs are of one model: they differ at most in knobs that do not matter to it."""
    silent = list(NOT_PUBLIC)
    silent += ["label_names"]  # a name changes nothing that is computed
    silent += [] if config.head == "language_model" else _OF_LANGUAGE_MODEL
    silent += [] if config.head_is_tied else ["scales_tied_head"]
    silent += _OF_RELATIVE_POSITIONS if config.positions == "learned" else _OF_LEARNED_POSITIONS
    silent += [] if config.has_pooler else ["pooler"]
    fields = [field.name for field in dataclasses.fields(config) if field.name not in silent]
    return all(getattr(config, name) == getattr(other, name) for name in fields)
