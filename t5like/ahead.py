"""Compiling a train step for TPUs that are not there, with the compiler that comes in the package libtpu."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t5like.batch import Features, SpecialTokens
from t5like.errors import UserError
from t5like.objectives.base import Objective
from t5like.placement import Placement, abstract_state
from t5like.planning.topologies import Topology
from t5like.training import TrainingConfig, jit_train_step, takes_limit

# What libtpu would ask a TPU machine's metadata server, and that several processes may compile at once.
_NO_MACHINE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
_NUM_SPECIAL = 1000  # ids below are sentinels; more than any row needs


class OutOfMemory(Exception):
    """The program does not fit; the message is the compiler's."""


def topology_devices(topology: Topology) -> list[Any]:
    """Returns the devices of a topology, for which programs can be compiled but not run.

    Raises:
      UserError: the compiler is not installed, or knows no such topology.
    """
    from jax.experimental import topologies

    try:
        import libtpu  # noqa: F401
    except ImportError:
        raise UserError(
            'Planning for a TPU needs its compiler; install it with: pip install "jax[tpu]".'
        ) from None
    for name, value in _NO_MACHINE.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {"num_slices": topology.num_slices} if topology.num_slices > 1 else {}
    if topology.chip.name == "v4":
        options["chip_config_name"] = "megacore"  # or each of a chip's cores is a device
    if topology.num_chips == topology.num_slices:
        options["chips_per_host_bounds"] = (1,) * 3
    try:
        described = topologies.get_topology_desc(
            platform="tpu", topology_name=topology.compiler_name, **options
        )
    except Exception as error:  # whatever libtpu raises
        raise UserError(
            f"The TPU compiler knows no topology {topology.compiler_name}: {str(error).splitlines()[0]}"
        ) from error
    return list(described.devices)


def lower_step(
    config: TrainingConfig, placement: Placement, shapes: Mapping[str, jax.ShapeDtypeStruct]
) -> Any:
    """Returns the train step as it is given to the compiler."""
    optimizer = config.optimizer.build(config.num_steps, placement.axes)
    step: Any = jit_train_step(config, placement, optimizer)
    batch = {
        name: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=placement.batch)
        for name, shape in shapes.items()
    }
    with jax.set_mesh(placement.mesh):
        limit = [np.float32(0)] if takes_limit(config) else []
        return step.lower(abstract_state(placement, optimizer), batch, np.uint32(0), *limit)


def compile_lowered(lowered: Any) -> Any:
    """Returns the compiled step; takes minutes.

    Raises:
      OutOfMemory: it needs more memory than a device has.
    """
    with _without_cache():
        try:
            return lowered.compile()
        except Exception as error:
            if "RESOURCE_EXHAUSTED" in str(error) or "hbm" in str(error).lower():
                raise OutOfMemory(str(error)) from error
            raise


@contextmanager
def _without_cache() -> Iterator[None]:
    """Leaves the cache of compiled programs alone: what is compiled ahead can be written to it but not read back."""
    was = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", was)


def batch_shapes(
    objective: Objective, *, batch_size: int, packs_rows: bool
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shape and dtype of every feature of a batch, found by making a few rows of no particular tokens."""
    length = max(objective.lengths.values())
    rng = np.random.default_rng(0)
    documents = [np.arange(2 * length, dtype=np.int32) % 7 + _NUM_SPECIAL for _ in range(4)]
    rows: Features = objective(documents, rng, _AnyVocabulary())  # type: ignore[arg-type]
    if packs_rows:
        rows |= {
            name.replace("segment_ids", "positions"): feature
            for name, feature in rows.items()
            if name.endswith("segment_ids")
        }
    return {
        name: jax.ShapeDtypeStruct((batch_size, *feature.shape[1:]), jnp.dtype(feature.dtype))
        for name, feature in rows.items()
    }


@dataclasses.dataclass(frozen=True)
class _AnyVocabulary:
    """What objectives ask of a vocabulary, where the tokens do not matter."""

    num_tokens: int = 2 * _NUM_SPECIAL
    special_tokens: SpecialTokens = dataclasses.field(
        default_factory=lambda: SpecialTokens(1, np.arange(10, _NUM_SPECIAL, dtype=np.int32), mask_id=4)
    )

    @property
    def is_special(self) -> np.ndarray:
        return np.arange(self.num_tokens) < _NUM_SPECIAL

    @property
    def starts_word(self) -> np.ndarray:
        return np.ones(self.num_tokens, bool)

    @property
    def ends_sentence(self) -> np.ndarray:
        return np.arange(self.num_tokens) % 7 == 0

    def encode(self, text: str) -> np.ndarray:
        """Returns a token for each letter."""
        return np.full(len(text), _NUM_SPECIAL, np.int32)
