"""Entry point: what a pretraining run needs on TPUs that are not there, and how fast it should be.

t5like plan configs/t5_1_1_xl.py --topology v5e-64 --price 1.2
"""

import argparse
import dataclasses
import importlib.metadata
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from t5like import __version__
from t5like.ahead import (
    OutOfMemory,
    batch_shapes,
    compile_lowered,
    lower_step,
    topology_devices,
)
from t5like.config import parse_command_line, to_json
from t5like.data.vocabulary import find_vocabulary
from t5like.entry import run_entry
from t5like.errors import UserError
from t5like.flops import training_work
from t5like.mesh import AXES
from t5like.models.config import RematPolicy, TransformerConfig
from t5like.placement import Placement, abstract_state
from t5like.plan_text import describe, ranking
from t5like.planning.collectives import Wires
from t5like.planning.hlo import parse
from t5like.planning.record import GIB, Memory, Plan, collectives_of
from t5like.planning.timeline import Timeline
from t5like.planning.topologies import Topology, find_topology
from t5like.pretrain import Pretrain
from t5like.training import check_lengths, check_stacks, place_to_train
from t5like.whole_files import write_json

COMMAND = "t5like plan"
_EXAMPLE = "--topology v5e-64"
_USAGE = "--topology NAME [--num_slices N] [--price USD] [--json FILE] [--search]"
_HELP = """\
  --topology NAME   a TPU slice: v5e-64, v5p-64, v6e-16, or with its shape v5e:8x8
  --num_slices N    how many such slices the run spans (1)
  --price USD       of a chip and hour, to tell what a day and the run cost
  --json FILE       write the plan there as well
  --search          try meshes, rematerialisation and batch sizes, and rank them (a compilation each, minutes)
"""


def main(argv: list[str]) -> None:
    """Compiles what the command line says, and prints the plan.

    Raises:
      UserError: the step does not fit, among others; the plan has been printed and written then.
    """
    options, rest = _options(argv)
    config, common = parse_command_line(
        rest,
        command=COMMAND,
        config_class=Pretrain,
        has_workdir=False,
        example=_EXAMPLE,
        own_usage=_USAGE,
        own_help=_HELP,
    )
    if common.prints_config:
        print(to_json(config))
        return
    if options.topology is None:
        raise UserError(f"{COMMAND} needs --topology, the TPU slice to plan for, such as {_EXAMPLE}.")
    if options.json is not None and not options.json.parent.is_dir():
        raise UserError(
            f"--json {options.json} lies in a folder that is not there; make it, or give another place."
        )
    name = next((word for word in rest if word.endswith(".py")), "")
    topology = find_topology(options.topology, num_slices=options.num_slices)
    if options.search:
        plans = sorted(search(config, topology, name=name), key=_merit)
        print(ranking(plans))
        best = plans[0]
    else:
        best = make_plan(config, topology, name=name)
    print(describe(best, topology, price=options.price, num_steps=config.num_steps))
    if options.json is not None:
        write_json(options.json, best.to_json())
    if not best.memory.fits:
        raise UserError(
            f"The step does not fit a device of {topology.name}: it needs {best.memory.peak / GIB:.2f} GiB of "
            f"{best.memory.limit / GIB:.2f}; raise mesh.fsdp or num_microbatches, set model.remat full, or lower batch_size."
        )


def _options(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the options of this command, and the words that are the config's."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    own.add_argument("--topology")
    own.add_argument("--num_slices", "--num-slices", type=int, default=1)
    own.add_argument("--price", type=float)
    own.add_argument("--json", type=Path)
    own.add_argument("--search", action="store_true")
    try:
        return own.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise UserError(f"{COMMAND}: {error.argument_name} {error.message}; see {COMMAND} --help.") from None


class Draft(NamedTuple):
    """A plan before the compiler has been asked."""

    plan: Plan  # what is known of it
    lowered: Any  # what the compiler is given
    wires: Wires


def make_plan(config: Pretrain, topology: Topology, *, name: str) -> Plan:
    """Returns the plan of one config; takes minutes, all of them the compiler's.

    Raises:
      UserError: the config cannot run on this topology, for other reasons than memory.
    """
    draft = draft_plan(config, topology, name=name)
    print(f"compiling for {topology.num_devices} x {topology.chip.device_kind} ...", file=sys.stderr)
    return complete(draft)


def draft_plan(config: Pretrain, topology: Topology, *, name: str) -> Draft:
    """Returns what is known of a config's plan before it is compiled; takes seconds.

    Raises:
      UserError: the config cannot run on this topology.
    """
    model = resolve_model(config)
    check_stacks(model, config.objective, COMMAND)
    check_lengths(model, COMMAND, **config.objective.lengths)
    placement = place_to_train(config, model, devices=topology_devices(topology))
    shapes = batch_shapes(config.objective, batch_size=config.batch_size, packs_rows=config.packs_rows)
    plan = Plan(
        config=name,
        topology=topology.name,
        num_slices=topology.num_slices,
        num_devices=topology.num_devices,
        num_chips=topology.num_chips,
        mesh={axis: size for axis, size in placement.mesh.shape.items() if size != 1},
        batch_size=config.batch_size,
        num_microbatches=config.num_microbatches,
        remat=model.remat,
        attention=model.attention,
        memory=_given_memory(config, placement, shapes, topology),
        model_flops=training_work(model, {key: shape.shape for key, shape in shapes.items()}).flops,
        peak_flops=topology.chip.peak_flops,
        tokens=sum(shape.size for key, shape in shapes.items() if key.endswith("input_tokens")),
        versions=_versions(),
    )
    return Draft(plan, lower_step(config, placement, shapes), _wires(placement, topology))


def complete(draft: Draft) -> Plan:
    """Returns the plan with what the compiler says."""
    memory = draft.plan.memory
    try:
        compiled = compile_lowered(draft.lowered)
    except OutOfMemory as error:
        memory = dataclasses.replace(memory, peak=_needed(str(error), memory))
        return dataclasses.replace(draft.plan, memory=memory)
    analysis = compiled.memory_analysis()
    memory = dataclasses.replace(
        memory, peak=analysis.peak_memory_in_bytes, host=analysis.host_temp_size_in_bytes
    )
    totals = Timeline(parse(compiled.as_text()), draft.wires).step()
    return dataclasses.replace(
        draft.plan,
        memory=memory,
        device_flops=totals.flops,
        compute_seconds=totals.compute_seconds,
        kernel_seconds=totals.kernel_seconds,
        memory_wait_seconds=totals.memory_wait_seconds,
        sync_seconds=totals.sync_seconds,
        wire_wait_seconds=totals.wire_wait_seconds,
        collectives=collectives_of(totals),
    )


def resolve_model(config: Pretrain) -> TransformerConfig:
    """Returns the model with its number of embedding rows filled in, which the vocabulary decides.

    Raises:
      UserError: the vocabulary is not there to tell.
    """
    if config.model.num_embeddings is not None:
        return config.model
    if config.vocabulary is None:
        num_ids = config.vocabulary_size + config.vocabulary_extra_ids
        num_embeddings = -(-num_ids // 128) * 128
    else:
        try:
            vocabulary = find_vocabulary(config.vocabulary, extra_ids=config.vocabulary_extra_ids)
        except UserError as error:
            raise UserError(
                f"{COMMAND} cannot tell the rows of the embedding table: {str(error).rstrip('.')}; or set "
                "--model.num_embeddings, which is 32128 for T5."
            ) from error
        num_embeddings = vocabulary.num_embeddings
    return dataclasses.replace(config.model, num_embeddings=num_embeddings)


def search(config: Pretrain, topology: Topology, *, name: str) -> Iterator[Plan]:
    """Yields plans of a config and of ones like it: other meshes first, then other policies, then other batches.

    Each kind of change starts from the best that was found before. What cannot be laid out is left out.
    """
    best = make_plan(config, topology, name=name)
    yield best
    for variants in (_meshes, _policies, _batches):
        start = config
        for variant in variants(start, topology):
            try:
                plan = make_plan(variant, topology, name=name)
            except UserError as error:
                print(f"left out: {error}", file=sys.stderr)
                continue
            yield plan
            if _merit(plan) < _merit(best):
                best, config = plan, variant


def _merit(plan: Plan) -> tuple[bool, float]:
    """Returns what is smaller for a better plan: those that fit come first, by the time a token takes."""
    per_token = plan.step_seconds / plan.tokens if plan.memory.fits else plan.memory.peak
    return not plan.memory.fits, per_token


def _meshes(config: Pretrain, topology: Topology) -> Iterator[Pretrain]:
    """Yields the config fully sharded, sharded along one dimension of the torus, and with whole copies."""
    a_slice = topology.num_devices // topology.num_slices
    for fsdp in dict.fromkeys((a_slice, *sorted(topology.shape, reverse=True), 1)):
        mesh = dataclasses.replace(
            config.mesh, slices=topology.num_slices, data=-1, fsdp=fsdp, sequence=1, tensor=1
        )
        if mesh.sizes(topology.num_devices) != config.mesh.sizes(topology.num_devices):
            yield dataclasses.replace(config, mesh=mesh)


def _policies(config: Pretrain, _: Topology) -> Iterator[Pretrain]:
    policies: tuple[RematPolicy, ...] = ("full", "save_matmuls", "none")
    for policy in policies:
        if policy != config.model.remat:
            yield dataclasses.replace(config, model=dataclasses.replace(config.model, remat=policy))


def _batches(config: Pretrain, _: Topology) -> Iterator[Pretrain]:
    yield dataclasses.replace(config, batch_size=2 * config.batch_size)
    if config.batch_size % (2 * config.num_microbatches) == 0:
        yield dataclasses.replace(config, batch_size=config.batch_size // 2)


def _given_memory(
    config: Pretrain, placement: Placement, shapes: Mapping[str, jax.ShapeDtypeStruct], topology: Topology
) -> Memory:
    """Returns what a device holds before the step computes anything."""
    optimizer = config.optimizer.build(config.num_steps, placement.axes)
    state = abstract_state(placement, optimizer)
    batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placement.batch), dict(shapes)
    )
    parameters, of_optimizer, of_batch = map(_device_bytes, (state.params, state.optimizer, batch))
    return Memory(
        limit=topology.chip.memory_bytes,
        peak=parameters + of_optimizer + of_batch,
        parameters=parameters,
        optimizer=of_optimizer,
        batch=of_batch,
    )


def _device_bytes(tree: Any) -> float:
    """Returns the bytes of abstract arrays that one device holds."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        part = jax.ShapeDtypeStruct(leaf.sharding.shard_shape(leaf.shape), leaf.dtype)
        total += part.size * part.dtype.itemsize
    return float(total)


def _needed(message: str, given: Memory) -> float:
    """Returns the bytes that a program needs, as the compiler says where it refuses it."""
    used = re.search(r"[Uu]sed ([\d.]+)([GM])", message)
    if used is None:
        return max(given.peak, given.limit * 1.001)
    return float(used[1]) * (GIB if used[2] == "G" else 2**20)


def _wires(placement: Placement, topology: Topology) -> Wires:
    """Returns where the devices of the mesh lie."""
    positions = tuple(
        (getattr(device, "slice_index", 0) or 0, *device.coords) for device in placement.mesh.devices.flat
    )
    sizes = tuple(placement.mesh.shape[axis] for axis in AXES)
    return Wires(topology=topology, axes=AXES, sizes=sizes, positions=positions)


def _versions() -> dict[str, str]:
    return {"t5like": __version__, "jax": jax.__version__, "libtpu": importlib.metadata.version("libtpu")}


if __name__ == "__main__":
    from t5like import plan as this_module  # so that configs name t5like.plan, not __main__

    sys.exit(run_entry(this_module.main))
