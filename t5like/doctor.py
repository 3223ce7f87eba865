"""Entry point: examines the hosts and chips that a run would have, one by one and together.

t5like doctor                                                            this machine
t5like doctor --expected_hosts 4 --expected_devices 4 --folder /mnt/bucket    each host of a slice, with the same command
"""

import dataclasses
import importlib.metadata
import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from t5like.config import parse_command_line, to_json
from t5like.distributed import gather, host_name, is_first_host, join_hosts
from t5like.entry import run_entry
from t5like.errors import UserError
from t5like.optim.base import require_at_least_zero

COMMAND = "t5like doctor"

_PACKAGES = ("t5like", "jax", "jaxlib", "libtpu", "flax", "orbax-checkpoint")
_MIN_FREE_BYTES, _MIN_OPEN_FILES = 10e9, 4096
_SUMMED_BYTES = 16 << 20  # on each device


@dataclasses.dataclass(frozen=True, kw_only=True)
class Doctor:
    """What is to be there."""

    expected_hosts: int = 0
    """Hosts that the run is to have; 0 takes those that are there."""
    expected_devices: int = 0
    """JAX devices of each host; 0 takes those that are there."""
    folder: str | None = None
    """Where workdirs are to be: is it the same folder on all hosts, and can it be written to?"""
    seconds: int = 10
    """How long all devices add numbers up together."""

    def __post_init__(self) -> None:
        require_at_least_zero(self, "expected_hosts", "expected_devices", "seconds")


@dataclasses.dataclass(frozen=True)
class Finding:
    """What an examination found.

    Attributes:
      complaint: what is wrong and what to do; None if nothing is.
    """

    name: str
    found: str
    complaint: str | None = None


def main(argv: list[str]) -> None:
    """Examines, and prints a line for each examination.

    Raises:
      UserError: something is wrong; the message says with what.
    """
    options, command_line = parse_command_line(
        argv, command=COMMAND, config_class=Doctor, default=Doctor(), has_workdir=False
    )
    if command_line.prints_config:
        print(to_json(options))
        return
    join_hosts()
    complaints = []
    for examine in (_versions, _devices, _open_files, _disk, _folder, _sum):
        finding = examine(options)
        if finding.complaint is not None:
            complaints.append(finding.name)
        if is_first_host():
            print(
                f"{'BAD' if finding.complaint else 'ok ':<4} {finding.name:<10} {finding.found}", flush=True
            )
            if finding.complaint:
                print(f"     {'':<10} {finding.complaint}", flush=True)
    if complaints:
        raise UserError(f"Not all is well with {', '.join(complaints)}; see above.")


def _versions(options: Doctor) -> Finding:
    """Are the same programs on all hosts?"""
    own = {name: _version(name) for name in _PACKAGES} | {"python": platform.python_version()}
    found = ", ".join(f"{name} {version}" for name, version in own.items() if version)
    different = _hosts_unlike_the_first(gather(own))
    return Finding(
        "versions",
        found if jax.process_count() == 1 else f"on all {jax.process_count()} hosts: {found}",
        f"other ones on {different}: set all hosts up anew" if different else None,
    )


def _devices(options: Doctor) -> Finding:
    """Are all chips there?"""
    counts = gather({"number": jax.local_device_count(), "kind": jax.local_devices()[0].device_kind})
    expected = options.expected_devices or counts[0]["number"]
    found = f"{jax.device_count()} of {counts[0]['kind']}, hosts: {len(counts)}"
    complaint = None
    lacking = [
        f"{host_name(host)} has {told['number']}"
        for host, told in enumerate(counts)
        if told["number"] != expected
    ]
    is_on_cpu = jax.devices()[0].platform == "cpu" and "cpu" not in os.environ.get("JAX_PLATFORMS", "")
    if options.expected_devices and is_on_cpu:
        complaint = "JAX computes on the CPU: libtpu does not start; is another process holding the chips?"
    elif options.expected_hosts not in (0, len(counts)):
        complaint = f"{options.expected_hosts} hosts are expected: give the same command to all of them"
    elif lacking:
        complaint = (
            f"{expected} devices are expected of each: {', '.join(lacking)}; is another process holding them?"
        )
    elif different := _hosts_unlike_the_first(counts):
        complaint = f"of another kind on {different}"
    return Finding("devices", found, complaint)


def _open_files(options: Doctor) -> Finding:
    """May enough files be open?"""
    limits = gather(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return Finding(
        "limits",
        f"{min(limits)} open files",
        None if min(limits) >= _MIN_OPEN_FILES else f"raise it on {_who(limits)}: ulimit -n 100000",
    )


def _disk(options: Doctor) -> Finding:
    """Is there room for compiled programs and packages?"""
    free = gather(shutil.disk_usage(Path.home()).free)
    return Finding(
        "disk",
        f"{min(free) / 1e9:.0f} GB free at home",
        None if min(free) >= _MIN_FREE_BYTES else f"make room on {_who(free)}",
    )


def _folder(options: Doctor) -> Finding:
    """Is it one folder, in which a run can be written?"""
    if options.folder is None:
        return Finding("folder", "none was named")
    word = gather(f"doctor-{os.getpid()}-{time.time_ns()}")[0]
    shared = Path(options.folder) / word
    own = f"host-{jax.process_index()}"
    failures = _tried_by_all(lambda: shared.mkdir(exist_ok=True))
    failures = failures or _tried_by_all(lambda: _write(shared / own))
    failures = failures or _tried_by_all(lambda: _require_files(shared, jax.process_count()))
    moved = shared.with_name(f"{word}-moved")
    moves = is_first_host() and not failures
    own_failure = _failure(lambda: shared.rename(moved)) if moves else None
    failures = failures or {host: told for host, told in enumerate(gather(own_failure)) if told}
    failures = failures or _tried_by_all(lambda: _require_files(moved, jax.process_count()))
    if is_first_host():
        for place in (shared, moved):
            shutil.rmtree(place, ignore_errors=True)
    if not failures:
        return Finding("folder", f"{options.folder}: written, renamed and read")
    said = "; ".join(f"{host_name(host)}: {failure}" for host, failure in failures.items())
    return Finding("folder", options.folder, f"{said}; give a folder that all hosts share and may write to")


def _sum(options: Doctor) -> Finding:
    """Do all devices together add up right, and how fast?"""
    devices = Mesh(np.asarray(jax.devices()), ("devices",))
    split, whole = (NamedSharding(devices, spec) for spec in (PartitionSpec("devices"), PartitionSpec()))
    length = _SUMMED_BYTES // 4
    rows = jax.make_array_from_callback(
        (devices.size, length),
        split,
        lambda index: np.full((1, length), index[0].start or 0, np.float32),  # type: ignore[index]
    )
    add_up = jax.jit(lambda rows: jnp.sum(rows, axis=0), out_shardings=whole)
    total = jax.block_until_ready(add_up(rows))
    expected = devices.size * (devices.size - 1) / 2
    wrong = bool(np.any(np.asarray(total.addressable_data(0)) != expected))
    num_sums, began = 0, time.monotonic()
    # The same number of times on all hosts: each round is as long as the first host says.
    while gather(time.monotonic() - began < options.seconds)[0]:
        for _ in range(8):
            total = add_up(rows)
        jax.block_until_ready(total)
        num_sums += 8
    seconds = (time.monotonic() - began) / max(num_sums, 1)
    found = f"{_SUMMED_BYTES >> 20} MiB of each of {devices.size} devices in {1e3 * seconds:.2f} ms, {num_sums} times"
    return Finding("sum", found, "the sum is wrong: give the slice back" if any(gather(wrong)) else None)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _hosts_unlike_the_first(told: list[Mapping[str, Any]]) -> str:
    """Returns the hosts that say something else than the first, with what is different; "" if none does."""
    different = []
    for host, other in enumerate(told):
        names = [f"{name} {other[name]}" for name in other if other[name] != told[0][name]]
        if names:
            different.append(f"{host_name(host)} ({', '.join(names)})")
    return ", ".join(different)


def _who(values: list[float]) -> str:
    """Returns the host with the least."""
    return host_name(values.index(min(values)))


def _tried_by_all(what: Callable[[], object]) -> dict[int, str]:
    """Returns what failed, by host, once all hosts have tried."""
    return {host: failure for host, failure in enumerate(gather(_failure(what))) if failure}


def _failure(what: Callable[[], object]) -> str | None:
    try:
        what()
    except OSError as error:
        return str(error)
    return None


def _write(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"x" * 100_000)
        file.flush()
        os.fsync(file.fileno())


def _require_files(folder: Path, number: int) -> None:
    found = sorted(path.name for path in folder.iterdir() if len(path.read_bytes()) == 100_000)
    if len(found) != number:
        raise OSError(f"of the files of {number} hosts it sees {', '.join(found) or 'none'}")


if __name__ == "__main__":
    sys.exit(run_entry(main, spans_hosts=True))
