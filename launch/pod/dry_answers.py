"""What a dry run takes for the answers of the programs it does not call: those of a road without trouble."""

import json
from collections.abc import Callable, Mapping, Sequence

from launch.pod.calls import NOT_FOUND, Call
from launch.pod.request import Request

_THERE = {"qr": "ACTIVE", "gke": "RUNNING"}


def dry_answers(request: Request, action: str) -> Mapping[str, Sequence[str] | Callable[[Call], str]]:
    """Returns the answers, by what calls ask, that lead through an action."""
    is_shared = request.xpk and request.cluster is not None
    is_new = action in ("create", "babysit") and not is_shared
    num_asked = request.slices if request.backend == "gke" and not request.xpk else 1
    states = [NOT_FOUND] * num_asked if is_new else []
    made_for = f"\t{request.name}" if request.xpk and not is_shared else ""
    states.append(_THERE.get(request.backend, "") + made_for)
    if request.backend == "gke":
        images = {"babysit": [NOT_FOUND, NOT_FOUND, ""], "setup": [NOT_FOUND]}.get(action, [""])
        pods = [json.dumps({"items": [{"metadata": {"name": f"{request.name}-slice-0-0-xxxxx"}}]})]
        return {"state": states, "job": _jobset_answers(action), "pods": pods, "image": images}
    jobs = {"run": ["job 0 none"], "babysit": ["job 0 bare", "job 0 none", "job 1 running", "job 1 exited 0"]}
    each = request.num_hosts
    answers = [answer for answer in jobs.get(action, ["job 1 running"]) for _ in range(each)]
    return {"state": states, "job": answers, "hosts": _Instances(request, is_new), "worker": _worker}


def _jobset_answers(action: str) -> list[str]:
    labels = {"t5like-attempt": "1", "t5like-key": ""}
    running, done = (
        json.dumps({"metadata": {"labels": labels}, "status": status})
        for status in ({}, {"terminalState": "Completed"})
    )
    return {"run": [NOT_FOUND], "babysit": [NOT_FOUND, NOT_FOUND, running, done]}.get(action, [running])


class _Instances:
    """The machines of managed instance groups, which are not there at first where they are to be made."""

    def __init__(self, request: Request, is_new: bool):
        self._request, self._num_missing = request, request.slices if is_new else 0

    def __call__(self, call: Call) -> str:
        if self._num_missing:
            self._num_missing -= 1
            return NOT_FOUND
        group = call.argv[call.argv.index("list-instances") + 1]
        hosts = range(self._request.machines.num_hosts)
        return json.dumps(
            [
                {"instance": f"{group}-host{host}", "instanceStatus": "RUNNING", "currentAction": "NONE"}
                for host in hosts
            ]
        )


def _worker(call: Call) -> str:
    machine = call.argv[call.argv.index("ssh") + 1]
    return machine.rpartition("-host")[2]
