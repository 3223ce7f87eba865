"""Queued resources of the Cloud TPU API: v4, v5e, v5p and v6e."""

import pathlib
from collections.abc import Sequence

from launch.pod.backends.base import SliceState
from launch.pod.calls import Call, CallError, Shell, is_missing, make, unmake
from launch.pod.hosts import Host, SshBackend

_STATES = {
    "CREATING": SliceState.WAITING,
    "ACCEPTED": SliceState.WAITING,
    "WAITING_FOR_RESOURCES": SliceState.WAITING,
    "PROVISIONING": SliceState.WAITING,
    "ACTIVE": SliceState.ACTIVE,
    "SUSPENDING": SliceState.LEAVING,
    "DELETING": SliceState.LEAVING,
    "SUSPENDED": SliceState.GONE,
    "FAILED": SliceState.FAILED,
}
_SSH = ("--ssh-flag=-oConnectTimeout=20", "--ssh-flag=-oServerAliveInterval=15")
_DELETE_SECONDS = 1200.0


class QueuedResources(SshBackend):
    """One queued resource, of one node or, for several slices, of several that are granted together."""

    def create(self, shell: Shell) -> None:
        """See `Backend`."""
        make(shell, self._resource("create", self.request.name, *self._asked_for()))

    def state(self, shell: Shell) -> SliceState:
        """See `Backend`."""
        call = self._resource("describe", self.request.name, "--format=value(state.state)", asks="state")
        answer = shell.call(call)
        if is_missing(answer):
            return SliceState.MISSING
        if answer.code or answer.out.strip() not in _STATES:
            raise CallError(call, answer)
        return _STATES[answer.out.strip()]

    def delete(self, shell: Shell) -> None:
        """See `Backend`."""
        unmake(
            shell,
            self._resource("delete", self.request.name, "--force", "--quiet", seconds=_DELETE_SECONDS),
        )

    def hosts(self, shell: Shell) -> list[Host]:
        """See `SshBackend`."""
        return [
            Host(f"{node}-w{worker}", node, worker, number)
            for number, node in enumerate(self._nodes())
            for worker in range(self.request.machines.num_hosts)
        ]

    def on_host(self, host: Host, script: str, *, asks: str = "", timeout_seconds: float = 120.0) -> Call:
        """See `SshBackend`."""
        return Call(
            argv=(
                *("gcloud", "compute", "tpus", "tpu-vm", "ssh", host.machine, f"--worker={host.worker}"),
                *self._where(),
                *("--quiet", *_SSH, f"--command={script}"),
            ),
            asks=asks,
            timeout_seconds=timeout_seconds,
        )

    def copy_to(self, host: Host, file: pathlib.Path, place: str) -> Call:
        """See `SshBackend`."""
        return Call(
            argv=(
                *("gcloud", "compute", "tpus", "tpu-vm", "scp", str(file), f"{host.machine}:{place}"),
                f"--worker={host.worker}",
                *self._where(),
                "--quiet",
            ),
            timeout_seconds=600.0,
        )

    def _nodes(self) -> list[str]:
        request = self.request
        return (
            [request.name] if request.slices == 1 else [f"{request.name}-{i}" for i in range(request.slices)]
        )

    def _where(self) -> tuple[str, ...]:
        return (f"--zone={self.request.zone}", f"--project={self.request.project}")

    def _resource(self, verb: str, *words: str, asks: str = "", seconds: float = 300.0) -> Call:
        # Where flags of these are, as of gcloud 528.
        is_alpha = verb == "create" and bool(
            self.request.capacity == "flex_start" or self.request.reservation
        )
        return Call(
            argv=(
                *("gcloud", *(("alpha",) if is_alpha else ()), "compute", "tpus", "queued-resources", verb),
                *words,
                *self._where(),
            ),
            asks=asks,
            timeout_seconds=seconds,
        )

    def _asked_for(self) -> Sequence[str]:
        request = self.request
        several = (f"--node-count={request.slices}", f"--node-prefix={request.name}")
        capacity = {
            "on_demand": (),
            "spot": ("--spot",),
            "reserved": ("--reserved",),
            "flex_start": ("--provisioning-model=flex-start", f"--max-run-duration={request.max_run_hours}h"),
        }[request.capacity]
        told = {
            "--reservation": request.reservation,
            "--valid-until-duration": request.max_wait_hours and f"{request.max_wait_hours}h",
            "--network": request.network,
            "--subnetwork": request.subnetwork,
            "--service-account": request.service_account,
        }
        return [
            *((f"--node-id={request.name}",) if request.slices == 1 else several),
            *request.machines.api_flags,
            f"--runtime-version={request.machines.kind.runtime}",
            *capacity,
            *(f"{name}={value}" for name, value in told.items() if value),
        ]
