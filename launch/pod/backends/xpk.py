"""A cluster of xpk's: xpk makes the nodes and a queue, and the job waits its turn there.

The job is the JobSet of `Kubernetes` and not a workload made by xpk, which begins again after every exit code from 127 on,
has variables in its manifest for all to read, and looks for the end of the command every 5 seconds from a shell above it.
`xpk workload list` and `xpk workload delete` know it all the same.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

from launch.pod.backends.base import SliceState
from launch.pod.backends.gke import Kubernetes
from launch.pod.calls import Call, CallError, Shell, is_missing, must
from t5like.errors import UserError

# As xpk 1.16 calls them.
_QUEUE = "multislice-queue"
_QUEUE_LABEL, _WORKLOAD_LABEL = "kueue.x-k8s.io/queue-name", "xpk.google.com/workload"
_PRIORITY = "medium"
# Kueue hands it to whoever provides nodes for a time.
_MAX_RUN = "provreq.kueue.x-k8s.io/maxRunDurationSeconds"
# A cluster in any other state is at work.
_STATES = {
    "PROVISIONING": SliceState.WAITING,
    "STOPPING": SliceState.LEAVING,
    "ERROR": SliceState.FAILED,
}
_NO_KUEUE = "the server doesn't have a resource type"
# By which a cluster is known to have been made for a request of a name. xpk's own label stays beside it: gcloud takes the last.
_OURS = "t5like"
_CLUSTER_SECONDS = 2 * 3600.0


class XpkKubernetes(Kubernetes):
    """A cluster with a queue, made for the request, or one that is shared and named; see `Backend`."""

    def connect(self, shell: Shell) -> None:
        """See `Backend`. A cluster that is to be made is not there to connect to."""
        answer = shell.call(self._credentials())
        if answer.code and not is_missing(answer):
            raise CallError(self._credentials(), answer)

    def create(self, shell: Shell) -> None:
        """See `Backend`. What exists of it already is left as it is.

        Raises:
          UserError: the cluster is somebody's who has to make it.
        """
        request = self.request
        if request.cluster:
            raise UserError(
                f"There is no cluster {request.cluster} with a queue of xpk's in {request.region}; make it with xpk, or leave "
                "--cluster out, and one is made that is called as --name."
            )
        capacity = {
            "on_demand": "--on-demand",
            "spot": "--spot",
            "reserved": f"--reservation={request.reservation}",
            "flex_start": "--flex",
        }[request.capacity]
        words = [
            f"--tpu-type={request.machines.kind.api_name or request.machines.chip}-{request.machines.shape}",
            f"--num-slices={request.slices}",
            capacity,
        ]
        words.append(f"--custom-cluster-arguments=--labels=gke_product_type=xpk,{_OURS}={request.name}")
        words += ["--enable-gcsfuse-csi-driver"] if request.bucket else []
        must(shell, self._xpk("create", *words))
        self.connect(shell)

    def state(self, shell: Shell) -> SliceState:
        """See `Backend`. A cluster without its queue is one whose making was interrupted."""
        state = self._cluster_state(shell)
        if state is not SliceState.ACTIVE:
            return state
        call = self._kubectl("get", "localqueue", _QUEUE, asks="queue")
        answer = shell.call(call)
        if answer.code and not (is_missing(answer) or _NO_KUEUE in answer.err):
            raise CallError(call, answer)
        return SliceState.MISSING if answer.code else SliceState.ACTIVE

    def delete(self, shell: Shell) -> None:
        """See `Backend`. A cluster that was named stays, for others have jobs there; one that was made goes in any case."""
        if self.request.cluster:
            if self.state(shell) is SliceState.ACTIVE:
                self._end_job(shell)
            return
        if self._cluster_state(shell) is SliceState.MISSING:
            return
        with contextlib.suppress(CallError):  # whatever answers no more costs all the same
            if self.state(shell) is SliceState.ACTIVE:
                self._end_job(shell)
        must(shell, self._xpk("delete"))

    def manifest(self, command: Sequence[str], attempt: int) -> dict[str, Any]:
        """Returns the JobSet of a command."""
        manifest = super().manifest(command, attempt)
        ours = {_WORKLOAD_LABEL: self.request.name}
        manifest["metadata"]["labels"] |= {_QUEUE_LABEL: _QUEUE, **ours}
        if self.request.max_run_hours:
            longest = {_MAX_RUN: str(self.request.max_run_hours * 3600)}
            manifest["metadata"]["annotations"] = {**manifest["metadata"]["annotations"], **longest}
        for part in manifest["spec"]["replicatedJobs"]:
            pod = part["template"]["spec"]["template"]
            pod["metadata"] = {**pod["metadata"], "labels": ours}
            pod["spec"]["priorityClassName"] = _PRIORITY
        return manifest

    @property
    def keeps(self) -> bool:
        """See `Backend`."""
        return self.request.cluster is not None

    def _cluster_state(self, shell: Shell) -> SliceState:
        """Returns how far the cluster is.

        Raises:
          UserError: it is called as the request is, but was not made for it, so that it is neither used nor deleted.
        """
        fields = f"--format=value(status,resourceLabels.{_OURS})"
        words = ("container", "clusters", "describe", self._cluster, fields)
        where = (f"--location={self.request.region}", f"--project={self.request.project}")
        call = Call(argv=("gcloud", *words, *where), asks="state")
        answer = shell.call(call)
        if is_missing(answer):
            return SliceState.MISSING
        if answer.code:
            raise CallError(call, answer)
        status, _, made_for = answer.out.strip().partition("\t")
        if not self.request.cluster and made_for != self.request.name:
            raise UserError(
                f"The cluster {self._cluster} was not made here; give another --name, or --cluster {self._cluster} to use its "
                "queue and leave it there."
            )
        return _STATES.get(status, SliceState.ACTIVE)

    def _xpk(self, verb: str, *words: str) -> Call:
        request = self.request
        # The last two: without a question to a terminal.
        where = (f"--project={request.project}", f"--zone={request.zone}", "--force", "--quiet")
        argv = ("xpk", "cluster", verb, f"--cluster={self._cluster}", *words, *where)
        return Call(argv=argv, timeout_seconds=_CLUSTER_SECONDS)
