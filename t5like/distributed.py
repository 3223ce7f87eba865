"""One run on several hosts, as JAX sees it: they meet, agree on what they run, share rows out and put results together.

On one host each of these does nothing, or what it says for one.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from t5like.data.lanes import ONLY_HOST, HostShare, merge_cursors
from t5like.errors import UserError
from t5like.hosts.member import this_member
from t5like.preemption import told_at

PyTree = Any

# The watchers judge who is lost; JAX, which would end every process without a word, comes much later.
_JAX_PATIENCE = 10
_EVER_SECONDS = 7 * 24 * 3600


def join_hosts() -> None:
    """Makes this process one of the run's, if a watcher started it; call it before any device is used."""
    member = this_member()
    if member is None or jax.distributed.is_initialized():
        return
    own = member.membership
    port = own.coordinator.rpartition(":")[2]
    jax.distributed.initialize(
        own.coordinator,
        own.num_hosts,
        own.host,
        local_device_ids=None if own.local_device is None else [own.local_device],
        cluster_detection_method="deactivate",  # it is known already
        initialization_timeout=int(own.timeout_seconds),
        coordinator_bind_address=f"{own.bind_address or '[::]'}:{port}",
        heartbeat_timeout_seconds=int(_JAX_PATIENCE * own.timeout_seconds),
        shutdown_timeout_seconds=_EVER_SECONDS,  # the first host writes the report meanwhile
    )
    _connect_devices()


def _connect_devices() -> None:
    """Lets all devices exchange something while all hosts are here.

    On CPUs those that exchange something for the first time wait 30 s for one another and no longer, and later on hosts
    that read or compile may well be further apart.
    """
    gather("all hosts are here")
    devices = Mesh(np.asarray(jax.devices()), ("devices",))
    split, whole = (NamedSharding(devices, spec) for spec in (PartitionSpec("devices"), PartitionSpec()))
    ones = jax.make_array_from_callback((devices.size,), split, lambda _: np.ones(1, np.float32))
    jax.block_until_ready(jax.jit(jnp.sum, out_shardings=whole)(ones))


def is_first_host() -> bool:
    """Returns whether this is the process that writes what a run writes once."""
    return jax.process_index() == 0


def host_name(host: int) -> str:
    """Returns what messages call a host."""
    member = this_member()
    name = f" ({member.membership.names[host]})" if member is not None else ""
    return f"Host {host} of {jax.process_count()}{name}"


def mark(*, is_under_way: bool = False) -> None:
    """Takes note that something begins that all hosts do, in the same order; whoever lacks marks holds them up.

    Args:
      is_under_way: whether the programs of the run are compiled by now.
    """
    member = this_member()
    if member is not None:
        member.mark(is_under_way=is_under_way)


def begin_again() -> None:
    """Takes note that the run goes back to a checkpoint, where hosts may again be far apart."""
    member = this_member()
    if member is not None:
        member.begin_again()


def told_to_end(step: int) -> bool:
    """Returns whether the run ends here because a host was told to; at the same step on all, which all ask at each."""
    if jax.process_count() == 1:
        return told_at() is not None
    return multihost_utils.reached_preemption_sync_point(step)


def gather(own: Any) -> list[Any]:
    """Returns what each host gives, by host; all call it, with something small that JSON can hold."""
    if jax.process_count() == 1:
        return [own]
    mark()
    text = np.frombuffer(json.dumps(own).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.asarray(len(text), np.int32))
    room = 1 << int(lengths.max()).bit_length()  # so that few sizes are compiled
    padded = multihost_utils.process_allgather(np.pad(text, (0, room - len(text))))
    return [json.loads(row[:length].tobytes()) for row, length in zip(padded, lengths, strict=True)]


def agree(facts: Mapping[str, Any], *, remedy: str) -> None:
    """Returns if all hosts state the same facts.

    Args:
      facts: what is stated, by its name in a sentence.

    Raises:
      UserError: they do not; it says which host differs from the first, and in what.
    """
    stated = gather(dict(facts))
    for host, other in enumerate(stated):
        for name, fact in stated[0].items():
            if other[name] != fact:
                raise UserError(f"{host_name(host)} has another {name} than host 0; {remedy}")


def host_share(sharding: NamedSharding, batch_size: int) -> HostShare:
    """Returns which part of the rows of a batch the devices of this host hold.

    Hosts over which only the model is split hold the same rows. Where a host's rows do not lie together, or are no part
    that counts, it is given the whole batch.

    Args:
      sharding: of a batch's features, by rows.
    """
    if jax.process_count() == 1:
        return ONLY_HOST
    indices = sharding.addressable_devices_indices_map((batch_size,))
    parts = sorted({index[0].indices(batch_size)[:2] for index in indices.values() if index is not None})
    first, last = parts[0][0], parts[-1][1]
    lie_together = all(end == begin for (_, end), (begin, _) in itertools.pairwise(parts))
    num_rows = last - first
    if not lie_together or batch_size % num_rows or first % num_rows:
        return ONLY_HOST
    return HostShare(first // num_rows, batch_size // num_rows)


def fetch(tree: PyTree) -> PyTree:
    """Returns arrays, wherever their parts lie, whole and in this host's memory; all hosts call it."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    mark()
    return multihost_utils.process_allgather(tree, tiled=True)


def fetch_each(computed: Iterable[tuple[Any, PyTree]]) -> Iterator[tuple[Any, PyTree]]:
    """Yields whatever comes beside some arrays, and them as `fetch` does: each once the next are being computed already.

    So devices are given their next batch before anybody waits for the one before.
    """
    behind: tuple[Any, PyTree] | None = None
    for due in computed:
        if behind is not None:
            yield behind[0], fetch(behind[1])
        behind = due
    if behind is not None:
        yield behind[0], fetch(behind[1])


def shared_cursor(own: dict[str, Any]) -> dict[str, Any]:
    """Returns the data cursor of all hosts together from that of each; all hosts call it at the same step."""
    return own if jax.process_count() == 1 else merge_cursors(gather(own))
