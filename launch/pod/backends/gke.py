"""Kubernetes: a pool of nodes for each slice, and a JobSet that gives the command to all of them.

What a restart can cure is JobSet's to restart, pods on slices that were taken away and have come back among it; what it
cannot cure fails the JobSet at once, by the exit codes of `launch.pod.jobs`.
"""

import json
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

from launch.pod.backends.base import Backend, SliceState
from launch.pod.calls import Call, CallError, Shell, is_missing, make, must, unmake
from launch.pod.checkout import pack_checkout
from launch.pod.jobs import INCURABLE, HostJob, key_of
from t5like.errors import UserError

_STATES = {
    "PROVISIONING": SliceState.WAITING,
    "RECONCILING": SliceState.WAITING,
    "RUNNING": SliceState.ACTIVE,
    "RUNNING_WITH_ERROR": SliceState.ACTIVE,
    "STOPPING": SliceState.LEAVING,
    "ERROR": SliceState.FAILED,
}
_CONTAINER = "t5like"
# A slice that is taken away is a restart like another to JobSet.
_MAX_RESTARTS = {"spot": 100, "other": 10}
_ATTEMPT, _KEY = "t5like-attempt", "t5like-key"
# Why a container waits that will never begin, and the shell's code for what cannot be run.
_NEVER = {
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
}
_CANNOT_START = 126
_GRACE_SECONDS = 300
_BUILD_SECONDS, _POOL_SECONDS = 3600.0, 3600.0
_JOB_OF = "jobset.sigs.k8s.io/jobset-name"
# In JobSet's own namespace of labels and annotations.
_A_POOL_EACH = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}


class Kubernetes(Backend):
    """Node pools and a JobSet; see `Backend`."""

    recreates = True

    def connect(self, shell: Shell) -> None:
        """See `Backend`."""
        must(shell, self._credentials())

    def create(self, shell: Shell) -> None:
        """See `Backend`."""
        request = self.request
        if self._needs_policy:
            make(
                shell,
                Call(
                    argv=(
                        *(
                            "gcloud",
                            "compute",
                            "resource-policies",
                            "create",
                            "workload-policy",
                            request.name,
                        ),
                        "--type=HIGH_THROUGHPUT",
                        f"--accelerator-topology={request.machines.shape}",
                        f"--region={request.region}",
                        f"--project={request.project}",
                    )
                ),
            )
        # Before anything costs; it is installed once for each cluster.
        must(shell, self._kubectl("get", "customresourcedefinition", "jobsets.jobset.x-k8s.io"))
        for pool in self._pools():
            make(shell, self._pool("create", pool, *self._asked_for(), seconds=_POOL_SECONDS))

    def state(self, shell: Shell) -> SliceState:
        """See `Backend`. Slices count together: they are as far as the one that is least so."""
        states = []
        calls = [
            self._pool("describe", pool, "--format=value(status)", asks="state") for pool in self._pools()
        ]
        for call, answer in zip(calls, shell.call_all(calls), strict=True):
            if is_missing(answer):
                states.append(SliceState.MISSING)
                continue
            if answer.code or answer.out.strip() not in _STATES:
                raise CallError(call, answer)
            states.append(_STATES[answer.out.strip()])
        if SliceState.MISSING in states:
            return SliceState.GONE if set(states) != {SliceState.MISSING} else SliceState.MISSING
        order = (SliceState.FAILED, SliceState.LEAVING, SliceState.WAITING, SliceState.ACTIVE)
        return min(states, key=order.index)

    def setup(self, shell: Shell) -> None:
        """See `Backend`. An image of this checkout is built where the user does not name one."""
        request = self.request
        if self._has_image(shell):
            return
        repository = ("artifacts", "repositories", "create", "t5like", "--repository-format=docker")
        where = f"--location={request.region}", f"--project={request.project}"
        make(shell, Call(argv=("gcloud", *repository, *where)))
        archive = pathlib.Path("t5like.tar.gz") if shell.is_dry else pack_checkout()
        with tempfile.TemporaryDirectory() as folder:
            steps = pathlib.Path("cloudbuild.json" if shell.is_dry else f"{folder}/cloudbuild.json")
            if not shell.is_dry:
                steps.write_text(json.dumps(self._build_steps()), encoding="utf-8")
            build = ("gcloud", "builds", "submit", str(archive), f"--config={steps}")
            where = (f"--region={request.region}", f"--project={request.project}")
            must(shell, Call(argv=(*build, *where), timeout_seconds=_BUILD_SECONDS))

    def run(self, shell: Shell, command: Sequence[str], attempt: int) -> None:
        """See `Backend`. A JobSet that is over makes room for a new one."""
        request = self.request
        self.stop(shell, _GRACE_SECONDS)
        if request.env_file is not None:
            must(shell, self._kubectl("delete", "secret", request.name, "--ignore-not-found"))
            from_file = f"--from-env-file={request.env_file}"
            must(shell, self._kubectl("create", "secret", "generic", request.name, from_file))
        manifest = json.dumps(self.manifest(command, attempt), indent=1)
        must(shell, self._kubectl("apply", "--filename=-", stdin=manifest))

    def jobs(self, shell: Shell) -> list[HostJob]:
        """See `Backend`. The JobSet counts as one host, for it sees to its pods itself."""
        call = self._kubectl("get", "jobset", self.request.name, "--output=json", asks="job")
        answer = shell.call(call)
        if is_missing(answer):
            return [HostJob("the JobSet", "none" if self._has_image(shell) else "bare")]
        try:
            found = json.loads(answer.out)
            attempt, key = (str(found["metadata"]["labels"][label]) for label in (_ATTEMPT, _KEY))
            end = found.get("status", {}).get("terminalState", "")
            state = (int(attempt), key)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CallError(call, answer) from error
        if end == "Completed":
            return [HostJob("the JobSet", "exited", state[0], 0, state[1])]
        if end == "Failed":
            return [HostJob("the JobSet", "exited", state[0], self._worst_code(shell), state[1])]
        if self._cannot_start(shell):
            return [HostJob("the JobSet", "exited", state[0], _CANNOT_START, state[1])]
        host = "the JobSet, in a queue" if found.get("spec", {}).get("suspend") else "the JobSet"
        return [HostJob(host, "running", state[0], key=state[1])]

    def fetch_logs(self, shell: Shell, folder: pathlib.Path) -> list[str]:
        """See `Backend`. A pod has a log of its own, and a new one after each restart."""
        missed = []
        names = [pod["metadata"]["name"] for pod in self._find_pods(shell)]
        answers = shell.call_all(self._kubectl("logs", name, f"--container={_CONTAINER}") for name in names)
        for name, answer in zip(names, answers, strict=True):
            if answer.code:
                missed.append(name)
            elif not shell.is_dry:
                folder.mkdir(parents=True, exist_ok=True)
                log, text = folder / f"{name}.log", answer.out.encode("utf-8", "surrogateescape")
                # Nodes rotate logs, and then give less than they have given.
                is_rotated = log.exists() and log.stat().st_size > len(text)
                with log.open("ab" if is_rotated else "wb") as file:
                    file.write(text)
        return missed

    def attach(self, shell: Shell) -> int:
        """See `Backend`."""
        first = f"job/{self.request.name}-slice-0"
        return shell.show(self._kubectl("logs", first, f"--container={_CONTAINER}", "--follow", "--tail=40"))

    def stop(self, shell: Shell, grace_seconds: int, *, is_final: bool = True) -> None:
        """See `Backend`. The grace is that of the manifest."""
        must(
            shell,
            self._kubectl(
                "delete", "jobset", self.request.name, "--ignore-not-found", seconds=_GRACE_SECONDS * 2
            ),
        )

    def doctor(self, shell: Shell, arguments: Sequence[str]) -> int:
        """See `Backend`. It is a job of its own, which may not be beside another."""
        raise UserError(
            "On Kubernetes the doctor is a job: give `run t5like doctor --expected_devices "
            f"{self.request.machines.devices_per_host}`, and read its logs."
        )

    def delete(self, shell: Shell) -> None:
        """See `Backend`."""
        request = self.request
        self._end_job(shell)
        for pool in self._pools():
            unmake(shell, self._pool("delete", pool, "--quiet", seconds=_POOL_SECONDS))
        if self._needs_policy:
            words = ("resource-policies", "delete", request.name, f"--region={request.region}", "--quiet")
            unmake(shell, Call(argv=("gcloud", "compute", *words, f"--project={request.project}")))

    def manifest(self, command: Sequence[str], attempt: int) -> dict[str, Any]:
        """Returns the JobSet of a command."""
        num_hosts = self.request.machines.num_hosts
        job = {
            "parallelism": num_hosts,
            "completions": num_hosts,
            "completionMode": "Indexed",
            "backoffLimit": 0,
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": _CONTAINER,
                            "operator": "In",
                            "values": list(INCURABLE),
                        },
                    }
                ]
            },
            "template": {"metadata": self._pod_metadata(), "spec": self._pod(command)},
        }
        return {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {
                "name": self.request.name,
                "labels": {_ATTEMPT: str(attempt), _KEY: key_of(command)},
                "annotations": _A_POOL_EACH,
            },
            "spec": {
                "failurePolicy": {
                    "maxRestarts": _MAX_RESTARTS["spot" if self.request.capacity == "spot" else "other"],
                    "rules": [
                        {
                            "name": "incurable",
                            "action": "FailJobSet",
                            "onJobFailureReasons": ["PodFailurePolicy"],
                        }
                    ],
                },
                "replicatedJobs": [
                    {"name": "slice", "replicas": self.request.slices, "template": {"spec": job}}
                ],
            },
        }

    def _end_job(self, shell: Shell) -> None:
        """Ends the job, and deletes what was made for it beside the slices."""
        self.stop(shell, _GRACE_SECONDS)
        if self.request.env_file is not None:
            must(shell, self._kubectl("delete", "secret", self.request.name, "--ignore-not-found"))

    def _pod(self, command: Sequence[str]) -> dict[str, Any]:
        """Returns what a host's pod is made of. The command is the container's first process, so that signals reach it."""
        request = self.request
        container: dict[str, Any] = {
            "name": _CONTAINER,
            "image": request.image or self._image(),
            "command": list(command),
            "resources": {"limits": {"google.com/tpu": request.machines.chips_per_host}},
        }
        pod: dict[str, Any] = {
            "restartPolicy": "Never",
            "hostNetwork": True,
            "dnsPolicy": "ClusterFirstWithHostNet",
            "terminationGracePeriodSeconds": _GRACE_SECONDS,
            "nodeSelector": {
                "cloud.google.com/gke-tpu-accelerator": request.machines.kind.node_label,
                "cloud.google.com/gke-tpu-topology": request.machines.shape,
            },
            "containers": [container],
        }
        if request.capacity == "spot":
            pod["nodeSelector"]["cloud.google.com/gke-spot"] = "true"
        if request.env_file is not None:
            container["envFrom"] = [{"secretRef": {"name": request.name}}]
        if request.service_account:
            pod["serviceAccountName"] = request.service_account
        if request.bucket:
            container["volumeMounts"] = [{"name": "bucket", "mountPath": "/mnt/bucket"}]
            attributes = {
                "bucketName": request.bucket,
                "mountOptions": "implicit-dirs,metadata-cache:ttl-secs:0,file-system:kernel-list-cache-ttl-secs:0",
            }
            csi = {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": attributes}
            pod["volumes"] = [{"name": "bucket", "csi": csi}]
        return pod

    def _pod_metadata(self) -> dict[str, Any]:
        return {"annotations": {"gke-gcsfuse/volumes": "true"}} if self.request.bucket else {}

    def _has_image(self, shell: Shell) -> bool:
        if self.request.image is not None:
            return True
        words = ("artifacts", "docker", "images", "describe", self._image())
        call = Call(argv=("gcloud", *words, f"--project={self.request.project}"), asks="image")
        answer = shell.call(call)
        if answer.code and not is_missing(answer):
            raise CallError(call, answer)
        return not answer.code

    def _cannot_start(self, shell: Shell) -> bool:
        statuses = [
            status
            for pod in self._find_pods(shell)
            for status in pod.get("status", {}).get("containerStatuses", [])
        ]
        return any(status.get("state", {}).get("waiting", {}).get("reason") in _NEVER for status in statuses)

    def _worst_code(self, shell: Shell) -> int:
        """Returns the exit code of a pod that failed, one that no restart cures before all others."""
        statuses = [
            status
            for pod in self._find_pods(shell)
            for status in pod.get("status", {}).get("containerStatuses", [])
        ]
        codes = [status.get("state", {}).get("terminated", {}).get("exitCode", 0) for status in statuses]
        failed = [code for code in codes if code]
        return ([code for code in failed if code in INCURABLE] or failed or [1])[0]

    def _find_pods(self, shell: Shell) -> list[dict[str, Any]]:
        call = self._kubectl(
            *("get", "pods", f"--selector={_JOB_OF}={self.request.name}", "--output=json"), asks="pods"
        )
        try:
            return list(json.loads(must(shell, call))["items"])
        except (ValueError, KeyError, TypeError) as error:
            raise CallError(call, shell.call(call)) from error

    @property
    def _cluster(self) -> str:
        return self.request.cluster or self.request.name

    @property
    def _needs_policy(self) -> bool:
        return self.request.machines.chip == "tpu7x" and self.request.machines.num_hosts > 1

    def _pools(self) -> list[str]:
        return [f"{self.request.name}-{number}" for number in range(self.request.slices)]

    def _image(self) -> str:
        request = self.request
        return f"{request.region}-docker.pkg.dev/{request.project}/t5like/{request.name}:{request.tag}"

    def _build_steps(self) -> dict[str, Any]:
        arguments = ["build", "--tag", self._image(), "--file", "launch/Dockerfile", "."]
        step = {"name": "gcr.io/cloud-builders/docker", "args": arguments}
        return {"steps": [step], "images": [self._image()]}

    def _pool(self, verb: str, pool: str, *words: str, asks: str = "", seconds: float = 300.0) -> Call:
        request = self.request
        where = (
            f"--cluster={self._cluster}",
            f"--location={request.region}",
            f"--project={request.project}",
        )
        return Call(
            argv=("gcloud", "container", "node-pools", verb, pool, *where, *words),
            asks=asks,
            timeout_seconds=seconds,
        )

    def _credentials(self) -> Call:
        words = ("container", "clusters", "get-credentials", self._cluster)
        where = (f"--location={self.request.region}", f"--project={self.request.project}")
        return Call(argv=("gcloud", *words, *where))

    def _kubectl(self, *words: str, asks: str = "", stdin: str | None = None, seconds: float = 300.0) -> Call:
        context = f"--context=gke_{self.request.project}_{self.request.region}_{self._cluster}"
        return Call(argv=("kubectl", *words, context), asks=asks, stdin=stdin, timeout_seconds=seconds)

    def _asked_for(self) -> list[str]:
        request, num_hosts = self.request, self.request.machines.num_hosts
        fixed = (f"--num-nodes={num_hosts}",)
        capacity = {
            "on_demand": fixed,
            "spot": (*fixed, "--spot"),
            "reserved": (*fixed, "--reservation-affinity=specific", f"--reservation={request.reservation}"),
            "flex_start": (
                *("--flex-start", "--enable-autoscaling", "--num-nodes=0", f"--total-max-nodes={num_hosts}"),
                *("--location-policy=ANY", "--reservation-affinity=none", "--no-enable-autorepair"),
                f"--max-run-duration={request.max_run_hours}h",
            ),
        }[request.capacity]
        policy = (f"--placement-policy={request.name}",) if self._needs_policy else ()
        return [
            f"--node-locations={request.zone}",
            f"--machine-type={request.machines.machine_type}",
            f"--tpu-topology={request.machines.shape}",
            *capacity,
            *policy,
        ]
