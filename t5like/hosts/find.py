"""Which hosts a run has, by the environment: plain processes, SLURM, Cloud TPU VMs."""

import glob
import importlib.util
import os
import re
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

from t5like.errors import UserError

COORDINATOR, NUM_HOSTS, HOST = "T5LIKE_COORDINATOR", "T5LIKE_NUM_HOSTS", "T5LIKE_HOST"
HOST_NAME, PORT = "T5LIKE_HOST_NAME", "T5LIKE_PORT"

# Where hosts meet on a TPU slice; below the ports that systems give to outgoing connections, and not JAX's own.
_TPU_PORT = 8479
# Jobs that share a node of a SLURM cluster meet at different ports.
_SLURM_PORTS = range(61440, 65536)

_METADATA_URL = "http://{}/computeMetadata/v1/instance/attributes/{}"
_METADATA_SECONDS = 5.0


class Hosts(NamedTuple):
    """The hosts of a run and which of them this one is.

    Attributes:
      names: of all hosts where the environment tells them, else empty; each says its own when it joins.
      local_device: the only device of the host that this process may use, where several processes share a host.
    """

    host: int
    num_hosts: int
    coordinator: str  # of host 0, address:port
    name: str  # of this host
    names: tuple[str, ...] = ()
    local_device: int | None = None

    def called(self, host: int, name: str = "") -> str:
        """Returns what messages call a host: Host 3 of 4 (tpu-w3)."""
        name = name or (self.names[host] if self.names else "")
        return f"Host {host} of {self.num_hosts}" + (f" ({name})" if name else "")


Metadata = Callable[[str], str | None]


def find_hosts(environment: Mapping[str, str], metadata: Metadata | None = None) -> Hosts | None:
    """Returns the hosts of the run this process belongs to, None where it is the only one.

    What the user says goes first: T5LIKE_COORDINATOR=ADDRESS:PORT, T5LIKE_NUM_HOSTS and T5LIKE_HOST. Then come the tasks
    of a SLURM step and the workers of a TPU slice, or of several.

    Args:
      metadata: gives an attribute of the virtual machine, None where it has no such; by default a TPU's machine is asked.

    Raises:
      UserError: the variables are incomplete or do not fit one another.
    """
    if any(name in environment for name in (COORDINATOR, NUM_HOSTS, HOST)):
        hosts = _named(environment)
    elif "SLURM_STEP_NODELIST" in environment:
        hosts = _of_slurm(environment)
    else:
        metadata = metadata or (_ask_machine if _has_tpu(environment) else None)
        hosts = None if metadata is None else _of_tpu_slice(environment, metadata)
    return None if hosts is None or hosts.num_hosts == 1 else hosts


def whole_number(environment: Mapping[str, str], name: str) -> int:
    """Returns a variable as a whole number.

    Raises:
      UserError: it is none, or below 0.
    """
    text = environment[name]
    if not text.isdecimal():
        raise UserError(f"{name} is {text!r}, but must be a whole number.")
    return int(text)


def _named(environment: Mapping[str, str]) -> Hosts | None:
    """Returns what the user says."""
    if environment.get(NUM_HOSTS) == "1":
        return None
    missing = [name for name in (COORDINATOR, NUM_HOSTS, HOST) if not environment.get(name)]
    if missing:
        raise UserError(
            f"{missing[0]} is not set: a run on several hosts needs {COORDINATOR}=ADDRESS:PORT of host 0, "
            f"{NUM_HOSTS} and, from 0 on, {HOST}; or none of them."
        )
    num_hosts, host = (whole_number(environment, name) for name in (NUM_HOSTS, HOST))
    if host >= num_hosts:
        raise UserError(
            f"{HOST} is {host}, but {NUM_HOSTS} is {num_hosts}: the hosts are 0 to {num_hosts - 1}."
        )
    coordinator = environment[COORDINATOR]
    if not re.fullmatch(r".+:\d{1,5}", coordinator):
        raise UserError(f"{COORDINATOR} is {coordinator!r}, but must be ADDRESS:PORT of host 0.")
    return Hosts(host, num_hosts, coordinator, _own_name(environment))


def _of_slurm(environment: Mapping[str, str]) -> Hosts | None:
    """Returns the tasks of a SLURM step; several on one node take one GPU each."""
    needed = ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_JOB_ID")
    if any(name not in environment for name in needed):
        return None
    num_hosts, host, job = (whole_number(environment, name) for name in needed)
    nodes = nodes_of(environment["SLURM_STEP_NODELIST"])
    port = environment.get(PORT) or str(_SLURM_PORTS[job % len(_SLURM_PORTS)])
    shares_node = num_hosts > len(nodes)
    local = whole_number(environment, "SLURM_LOCALID") if "SLURM_LOCALID" in environment else None
    return Hosts(
        host,
        num_hosts,
        f"{nodes[0]}:{port}",
        _own_name(environment),
        names=() if shares_node else tuple(nodes),
        local_device=local if shares_node else None,
    )


def nodes_of(node_list: str) -> list[str]:
    """Returns the nodes that a SLURM list names, in order: "a[01-03,7],b" -> a01 a02 a03 a7 b."""
    nodes = []
    for item in re.findall(r"[^,\[]+(?:\[[^\]]*\][^,\[]*)*", node_list):
        prefix, bracket, rest = item.partition("[")
        if not bracket:
            nodes.append(item)
            continue
        numbers, _, suffix = rest.partition("]")
        for part in numbers.split(","):
            first, _, last = part.partition("-")
            for number in range(int(first), int(last or first) + 1):
                nodes += nodes_of(f"{prefix}{number:0{len(first)}}{suffix}")
    return nodes


def _of_tpu_slice(environment: Mapping[str, str], metadata: Metadata) -> Hosts | None:
    """Returns the workers of a TPU slice, or of all slices of a run, in JAX's order: by slice, then by worker."""
    workers = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    number = environment.get("TPU_WORKER_ID")
    if not workers or number is None:
        workers, number = metadata("worker-network-endpoints"), metadata("agent-worker-number")
    if not workers or number is None:
        return None
    addresses = [_address(worker) for worker in workers.split(",")]
    slices = _slices(environment, metadata)
    num_slices, own_slice = int(slices.get("NUM_SLICES") or 1), int(slices.get("SLICE_ID") or 0)
    first = slices.get("COORDINATOR_ADDRESS") if num_slices > 1 else None
    return Hosts(
        own_slice * len(addresses) + int(number),
        num_slices * len(addresses),
        f"{(first or addresses[0]).split(':')[0]}:{environment.get(PORT) or _TPU_PORT}",
        _own_name(environment),
        names=tuple(addresses) if num_slices == 1 else (),
    )


def _address(worker: str) -> str:
    """Returns the address in what names a worker: itself, address:port, or name:id:address."""
    parts = worker.split(":")
    return parts[2] if len(parts) == 3 else parts[0]


def _slices(environment: Mapping[str, str], metadata: Metadata) -> dict[str, str]:
    """Returns what is known of the run's slices, by the names of MEGASCALE_... variables."""
    lines = re.findall(r"^\s*MEGASCALE_(\w+)\s*:\s*'?([^'\n]*)", metadata("tpu-env") or "", re.MULTILINE)
    own = {
        name.removeprefix("MEGASCALE_"): value
        for name, value in environment.items()
        if name.startswith("MEGASCALE_")
    }
    return {**dict(lines), **own}


def _has_tpu(environment: Mapping[str, str]) -> bool:
    """Returns whether JAX will compute on a TPU of this machine, found out without starting JAX."""
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms and "tpu" not in platforms.split(","):
        return False
    devices = glob.glob("/dev/accel*") + glob.glob("/dev/vfio/[0-9]*")
    return bool(devices) and importlib.util.find_spec("libtpu") is not None


def _ask_machine(attribute: str) -> str | None:
    """Returns an attribute of this virtual machine, None where it has no such, or no metadata at all."""
    import urllib.request  # which takes long to import, and is needed on such a machine alone

    server = os.environ.get("GCE_METADATA_IP", "metadata.google.internal")
    url = _METADATA_URL.format(server, attribute)
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=_METADATA_SECONDS) as answer:
            return str(answer.read().decode())
    except OSError:  # that of urllib is one
        return None


def _own_name(environment: Mapping[str, str]) -> str:
    return environment.get(HOST_NAME) or environment.get("SLURMD_NODENAME") or socket.gethostname()
