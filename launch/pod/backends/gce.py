"""Compute Engine: v5p, v6e and TPU7x. A slice is a managed instance group whose machines a workload policy wires together.

Google's documents of this road change; what is called is printed by --dry_run, to be compared with them.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from launch.pod.backends.base import SliceState
from launch.pod.calls import Answer, Call, CallError, Shell, is_missing, make, unmake
from launch.pod.hosts import Host, SshBackend

_COMING, _UNKNOWN = {"PENDING", "PROVISIONING", "STAGING"}, {None, ""}
_MAKES = {"CREATING", "CREATING_WITHOUT_RETRIES"}
_LEFT = {"STOPPING", "STOPPED", "TERMINATED", "SUSPENDING", "SUSPENDED", "DEPROVISIONING"}
_WORKER = (
    "curl --silent --fail --header Metadata-Flavor:Google "
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/worker-id"
)
_DELETED = "--instance-termination-action=DELETE"
_PORT, _SLICES_PORT = 8479, 8080
_IMAGES = "projects/ubuntu-os-accelerator-images/global/images/family"
_DELETE_SECONDS = 1200.0


class ComputeEngine(SshBackend):
    """A workload policy, an instance template, and for each slice a managed instance group."""

    def create(self, shell: Shell) -> None:
        """See `Backend`."""
        request = self.request
        self._delete_plans(shell)  # those of an earlier request, which may have been another
        make(
            shell,
            self._gcloud(
                *("resource-policies", "create", "workload-policy", request.name),
                "--type=HIGH_THROUGHPUT",
                f"--accelerator-topology={request.machines.shape}",
                f"--region={request.region}",
            ),
        )
        # gcloud 528 knows flex-start in its beta alone.
        release = ("beta",) if request.capacity == "flex_start" else ()
        template = ("instance-templates", "create", request.name, *self._asked_for())
        make(shell, self._gcloud(*template, release=release))
        policy = f"projects/{request.project}/regions/{request.region}/resourcePolicies/{request.name}"
        for group in self._groups():
            make(
                shell,
                self._group(
                    *("create", group),
                    f"--template={request.name}",
                    f"--size={request.machines.num_hosts}",
                    f"--workload-policy={policy}",
                    "--default-action-on-vm-failure=do-nothing",
                ),
            )

    def state(self, shell: Shell) -> SliceState:
        """See `Backend`. Slices count together: they are as far as the one that is least so."""
        groups = self._instances(shell)
        if not groups:
            return SliceState.MISSING
        if len(groups) < self.request.slices:
            return SliceState.GONE
        machines = [instance for group in groups for instance in group]
        statuses = {machine.get("instanceStatus") for machine in machines}
        is_coming = any(machine.get("currentAction") in _MAKES for machine in machines)
        # Nothing repairs a slice: one that lacks a machine which nobody makes has lost it.
        lacks = len(machines) < self.request.num_hosts or bool(statuses & _UNKNOWN)
        if statuses & _LEFT or (lacks and not is_coming):
            return SliceState.GONE
        if len(machines) < self.request.num_hosts or is_coming or statuses & _COMING:
            return SliceState.WAITING
        return SliceState.ACTIVE if statuses == {"RUNNING"} else SliceState.FAILED

    def delete(self, shell: Shell) -> None:
        """See `Backend`."""
        for group in self._groups():
            unmake(shell, self._group("delete", group, "--quiet", seconds=_DELETE_SECONDS))
        self._delete_plans(shell)

    def _delete_plans(self, shell: Shell) -> None:
        """Deletes what groups are made by."""
        request = self.request
        unmake(shell, self._gcloud("instance-templates", "delete", request.name, "--quiet"))
        words = ("resource-policies", "delete", request.name, f"--region={request.region}", "--quiet")
        unmake(shell, self._gcloud(*words))

    def hosts(self, shell: Shell) -> list[Host]:
        """See `SshBackend`."""
        hosts = []
        for number, group in enumerate(self._instances(shell)):
            names = sorted(str(instance["instance"]).rpartition("/")[2] for instance in group)
            hosts += [Host(name, name, worker, number) for worker, name in enumerate(names)]
        if not hosts:
            raise CallError(self._list(self._groups()[0]), Answer(1, err="there are no machines"))
        return hosts

    def in_order(self, shell: Shell, hosts: Sequence[Host]) -> list[Host]:
        """See `SshBackend`. Machines know which number they have been given in their slice, as JAX counts them."""
        calls = [self.on_host(host, _WORKER, asks="worker") for host in hosts]
        numbered = []
        for host, call, answer in zip(hosts, calls, shell.call_all(calls), strict=True):
            if not answer.out.strip().isdecimal():
                raise CallError(call, answer, where=host.name)
            numbered.append((host.slice, int(answer.out), host))
        return [host for _, _, host in sorted(numbered, key=lambda each: each[:2])]

    def variables(self, hosts: Sequence[Host], host: Host) -> dict[str, str]:
        """See `SshBackend`. Nobody else tells machines of several groups of one another."""
        told = {
            "T5LIKE_COORDINATOR": f"{hosts[0].machine}:{_PORT}",
            "T5LIKE_NUM_HOSTS": str(len(hosts)),
            "T5LIKE_HOST": str(hosts.index(host)),
        }
        if self.request.slices > 1:
            told |= {
                "MEGASCALE_COORDINATOR_ADDRESS": f"{hosts[0].machine}:{_SLICES_PORT}",
                "MEGASCALE_NUM_SLICES": str(self.request.slices),
                "MEGASCALE_SLICE_ID": str(host.slice),
            }
        return told

    def on_host(self, host: Host, script: str, *, asks: str = "", timeout_seconds: float = 120.0) -> Call:
        """See `SshBackend`."""
        ssh = ("--ssh-flag=-oConnectTimeout=20", "--ssh-flag=-oServerAliveInterval=15")
        return self._gcloud(
            *("ssh", host.machine, f"--zone={self.request.zone}", "--quiet", *ssh, f"--command={script}"),
            asks=asks,
            seconds=timeout_seconds,
        )

    def copy_to(self, host: Host, file: pathlib.Path, place: str) -> Call:
        """See `SshBackend`."""
        return self._gcloud(
            *("scp", str(file), f"{host.machine}:{place}", f"--zone={self.request.zone}", "--quiet"),
            seconds=600.0,
        )

    def _groups(self) -> list[str]:
        return [f"{self.request.name}-{number}" for number in range(self.request.slices)]

    def _list(self, group: str) -> Call:
        return self._group(
            "list-instances", group, "--format=json(instance,instanceStatus,currentAction)", asks="hosts"
        )

    def _instances(self, shell: Shell) -> list[list[dict[str, Any]]]:
        """Returns the machines of each slice that there is."""
        calls = [self._list(group) for group in self._groups()]
        answers = shell.call_all(calls)
        found = []
        for call, answer in zip(calls, answers, strict=True):
            if is_missing(answer):
                continue
            if answer.code:
                raise CallError(call, answer)
            try:
                found.append(list(json.loads(answer.out)))
            except (TypeError, ValueError) as error:
                raise CallError(call, answer) from error
        return found

    def _gcloud(
        self, *words: str, asks: str = "", seconds: float = 300.0, release: tuple[str, ...] = ()
    ) -> Call:
        return Call(
            argv=("gcloud", *release, "compute", *words, f"--project={self.request.project}"),
            asks=asks,
            timeout_seconds=seconds,
        )

    def _group(self, *words: str, asks: str = "", seconds: float = 300.0) -> Call:
        return self._gcloud(
            *("instance-groups", "managed", *words, f"--zone={self.request.zone}"), asks=asks, seconds=seconds
        )

    def _asked_for(self) -> list[str]:
        request = self.request
        capacity = {
            "on_demand": ("--provisioning-model=STANDARD",),
            "spot": ("--provisioning-model=SPOT", _DELETED),
            "reserved": (
                "--provisioning-model=RESERVATION_BOUND",
                _DELETED,
                "--reservation-affinity=specific",
                f"--reservation={request.reservation}",
            ),
            "flex_start": (
                "--provisioning-model=FLEX_START",
                _DELETED,
                f"--max-run-duration={request.max_run_hours}h",
                "--reservation-affinity=none",
            ),
        }[request.capacity]
        places = {"network": request.network, "subnet": request.subnetwork, "nic-type": "GVNIC"}
        image = f"{_IMAGES}/{request.machines.kind.image}"
        return [
            f"--machine-type={request.machines.machine_type}",
            "--maintenance-policy=TERMINATE",
            *capacity,
            "--network-interface=" + ",".join(f"{name}={value}" for name, value in places.items() if value),
            "--scopes=cloud-platform",
            *((f"--service-account={request.service_account}",) if request.service_account else ()),
            f"--create-disk=boot=yes,auto-delete=yes,size=200GB,type=hyperdisk-balanced,image={image}",
        ]
