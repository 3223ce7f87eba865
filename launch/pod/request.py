"""What the user asks for: slices, where, under which terms, and with what on them; checked before anything is called."""

import csv
import dataclasses
import pathlib
import re
from typing import Literal

from launch.pod.machines import Machines, find_machines
from t5like.errors import UserError

BACKENDS = ("qr", "gce", "gke")
Capacity = Literal["on_demand", "spot", "reserved", "flex_start"]
PRICES = pathlib.Path(__file__).parents[1] / "prices.csv"

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,35}[a-z0-9])?")
_ZONE = re.compile(r"[a-z]+-[a-z]+\d+-[a-z]")
_BUCKET = re.compile(r"[a-z0-9][-_.a-z0-9]{1,61}[a-z0-9]")
# Chips that a backend rents out, and those of them with flex-start.
_CHIPS = {
    "qr": ("v4", "v5e", "v5p", "v6e"),
    "gce": ("v5p", "v6e", "tpu7x"),
    "gke": ("v4", "v5e", "v5p", "v6e", "tpu7x"),
}
_FLEX_START = {"qr": ("v5e", "v6e"), "gce": ("v6e",), "gke": ("v5e", "v5p", "v6e", "tpu7x")}
_MAX_FLEX_HOURS = 7 * 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One or more slices of a kind, and what is wanted of them.

    Attributes:
      name: of what is made for it; everything else has names that begin with it.
      type: of one slice.
      max_run_hours: after which flex-start takes the slices away.
      max_wait_hours: after which a request that has not been granted fails.
      cluster: of Kubernetes, in which the nodes are to be; with `xpk`, in which they are.
      xpk: whether xpk makes the cluster, or has made it.
      image: of containers, for Kubernetes.
      tag: of the image that is built where none is named; it tells checkouts apart.
      bucket: that all hosts see as the folder /mnt/bucket.
      env_file: variables for the command, NAME=VALUE a line, which are in no command line and in no log.
    """

    backend: str
    name: str
    type: str
    zone: str
    project: str
    slices: int = 1
    capacity: Capacity = "on_demand"
    reservation: str | None = None
    max_run_hours: int | None = None
    max_wait_hours: int | None = None
    network: str | None = None
    subnetwork: str | None = None
    service_account: str | None = None
    cluster: str | None = None
    xpk: bool = False
    image: str | None = None
    tag: str = "checkout"
    bucket: str | None = None
    env_file: pathlib.Path | None = None

    @property
    def machines(self) -> Machines:
        """The machines of one slice."""
        return find_machines(self.type)

    @property
    def region(self) -> str:
        """Which the zone is in."""
        return self.zone.rpartition("-")[0]

    @property
    def num_hosts(self) -> int:
        """Machines of all slices."""
        return self.slices * self.machines.num_hosts

    @property
    def num_chips(self) -> int:
        """Chips of all slices."""
        return self.slices * self.machines.topology.num_chips

    def check(self) -> None:
        """Returns if this can be asked for.

        Raises:
          UserError: it cannot; the message says what is wrong and what is right.
        """
        self._check_names()
        self._check_capacity()
        chip = self.machines.chip
        if chip not in _CHIPS[self.backend]:
            others = " or ".join(f"--backend {name}" for name in BACKENDS if chip in _CHIPS[name])
            raise UserError(f"--backend {self.backend} has no {chip}; take {others}.")
        if self.slices < 1:
            raise UserError(f"--slices is {self.slices}, but must be at least 1.")
        if self.slices > 1 and self.machines.num_hosts == 1 and self.backend == "gke":
            raise UserError(
                f"On Kubernetes {self.slices} slices of {self.type} are no job; take larger ones."
            )
        if self.backend == "gke" and not (self.cluster or self.xpk):
            raise UserError(
                "--backend gke needs --cluster, the name of the Kubernetes cluster in that region, or --xpk, which makes one."
            )
        if self.xpk and self.backend != "gke":
            raise UserError("--xpk goes with --backend gke; leave it out.")
        if self.env_file is not None and not self.env_file.is_file():
            raise UserError(f"--env_file {self.env_file} is not a file.")

    def _check_names(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UserError(
                f"--name {self.name!r} must be 1 to 37 of a-z, 0-9 and -, begin with a letter and not end with -."
            )
        if not _ZONE.fullmatch(self.zone):
            raise UserError(f"--zone {self.zone!r} is no zone; one is us-east1-d, a region with a letter.")
        if not self.project:
            raise UserError("--project is empty; give the id of a Google Cloud project.")
        if self.bucket is not None and not _BUCKET.fullmatch(self.bucket):
            raise UserError(f"--bucket {self.bucket!r} is no name of a bucket; leave out gs:// and folders.")

    def _check_capacity(self) -> None:
        flex_chips = _FLEX_START[self.backend]
        is_flex = self.capacity == "flex_start"
        if self.capacity == "reserved" and not self.reservation and self.backend != "qr":
            raise UserError(
                f"--backend {self.backend} --reserved needs --reservation, the reservation's name."
            )
        if self.reservation and self.capacity != "reserved":
            raise UserError("--reservation goes with --reserved; add it.")
        if is_flex and self.machines.chip not in flex_chips:
            raise UserError(
                f"--flex_start is not there for {self.machines.chip} with --backend {self.backend}, "
                f"but for {', '.join(flex_chips)}."
            )
        if is_flex and not self.max_run_hours:
            raise UserError("--flex_start needs --max_run_hours, after which the slices are taken away.")
        if self.max_run_hours and not is_flex:
            raise UserError("--max_run_hours goes with --flex_start; leave it out.")
        if is_flex and not 0 < (self.max_run_hours or 0) <= _MAX_FLEX_HOURS:
            raise UserError(f"--max_run_hours must be 1 to {_MAX_FLEX_HOURS}.")
        if self.max_wait_hours is not None and self.max_wait_hours < 1:
            raise UserError("--max_wait_hours must be at least 1.")


def price_an_hour(request: Request, prices: pathlib.Path = PRICES) -> float | None:
    """Returns what the slices cost an hour in USD, None where the table has no such price.

    Raises:
      UserError: the table cannot be read.
    """
    try:
        with prices.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(line for line in file if not line.startswith("#")):
                if (row["chip"], row["capacity"]) == (request.machines.chip, request.capacity):
                    return request.num_chips * float(row["usd_per_chip_hour"])
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise UserError(
            f"{prices} is no table of chip,capacity,usd_per_chip_hour ({error}); mend it."
        ) from error
    return None


def describe_price(request: Request) -> str:
    """Returns what the slices cost, in words."""
    price = price_an_hour(request)
    chips = f"{request.num_chips} chips of {request.machines.chip}, {request.capacity.replace('_', ' ')}"
    if price is None:
        return f"{chips}; launch/prices.csv has no price of them"
    return f"{chips}: about {price:,.2f} USD an hour by launch/prices.csv"
