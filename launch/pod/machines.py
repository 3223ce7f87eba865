"""From the name of a slice to what Google Cloud calls its machines."""

import dataclasses
import math

from t5like.errors import UserError
from t5like.planning.topologies import Topology, find_topology


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Kind:
    """What is the same for all slices of one kind of chip.

    Attributes:
      api_name: of types in the Cloud TPU API, runtime: of its virtual machines; None where that API has no such chip.
      image: family of images on Compute Engine; None where that rents out no such machines.
      node_label: by which Kubernetes knows its nodes.
      single_hosts: machines that are a slice on their own, by their number of chips; larger slices have machines of 4.
    """

    api_name: str | None
    runtime: str | None
    machine_type: str
    image: str | None
    node_label: str
    single_hosts: tuple[int, ...] = (4,)


# cloud.google.com/tpu/docs, cloud.google.com/kubernetes-engine/docs/concepts/tpus and cloud.google.com/compute/docs, 2026-07.
_KINDS = {
    "v4": _Kind(
        api_name="v4",
        runtime="tpu-ubuntu2204-base",
        machine_type="ct4p-hightpu-{}t",
        image=None,
        node_label="tpu-v4-podslice",
    ),
    "v5e": _Kind(
        api_name="v5litepod",
        runtime="v2-alpha-tpuv5-lite",
        machine_type="ct5lp-hightpu-{}t",
        image=None,
        node_label="tpu-v5-lite-podslice",
        single_hosts=(1, 4, 8),
    ),
    "v5p": _Kind(
        api_name="v5p",
        runtime="v2-alpha-tpuv5",
        machine_type="ct5p-hightpu-{}t",
        image="ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e",
        node_label="tpu-v5p-slice",
    ),
    "v6e": _Kind(
        api_name="v6e",
        runtime="v2-alpha-tpuv6e",
        machine_type="ct6e-standard-{}t",
        image="ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e",
        node_label="tpu-v6e-slice",
        single_hosts=(1, 4, 8),
    ),
    "tpu7x": _Kind(
        api_name=None,
        runtime=None,
        machine_type="tpu7x-standard-{}t",
        image="ubuntu-accel-2404-amd64-tpu-tpu7x",
        node_label="tpu7x",
    ),
}


@dataclasses.dataclass(frozen=True)
class Machines:
    """The machines of one slice."""

    topology: Topology
    kind: _Kind

    @property
    def chip(self) -> str:
        """The kind of chip, as prices and messages call it."""
        return self.topology.chip.name

    @property
    def chips_per_host(self) -> int:
        """Chips of each machine."""
        return self.topology.num_chips if self.topology.num_chips in self.kind.single_hosts else 4

    @property
    def devices_per_host(self) -> int:
        """Devices that JAX sees on each machine."""
        return self.chips_per_host * self.topology.chip.devices_per_chip

    @property
    def num_hosts(self) -> int:
        """Machines of a slice."""
        return math.ceil(self.topology.num_chips / self.chips_per_host)

    @property
    def shape(self) -> str:
        """Chips along each dimension: 4x4."""
        return "x".join(map(str, self.topology.shape))

    @property
    def machine_type(self) -> str:
        """On Compute Engine and Kubernetes: ct6e-standard-4t."""
        return self.kind.machine_type.format(self.chips_per_host)

    @property
    def api_flags(self) -> tuple[str, ...]:
        """Which say the slice to the Cloud TPU API; a shape of its own needs two."""
        name = self.topology.name
        if ":" in name:
            return (f"--type={self.kind.api_name}", f"--topology={self.shape}")
        return (f"--accelerator-type={self.kind.api_name}-{name.rpartition('-')[2]}",)


def find_machines(name: str) -> Machines:
    """Returns the machines of a slice by its name, v6e-16 or v6e:4x4.

    Raises:
      UserError: there is no such slice; the message names the nearest.
    """
    topology = find_topology(name)
    machines = Machines(topology, _KINDS[topology.chip.name])
    if topology.num_chips % machines.chips_per_host:
        raise UserError(
            f"There is no slice {name}: its {topology.num_chips} chips are no whole machines of 4."
        )
    return machines
