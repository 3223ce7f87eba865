"""A Google Cloud of this machine's own: what `gcloud`, `kubectl` and `xpk` answer, with folders and processes for machines.

A `Cloud` is a folder. `cloud.environment()` puts these programs before all others on the PATH; what they are told is
written down, what they make lies in state.json, and a machine is a folder under hosts/, the home of what runs on it.

    WAITING_FOR_RESOURCES -> PROVISIONING -> ACTIVE         a look at a queued resource brings it one step on
    SUSPENDING -> SUSPENDED                                  the same, once it was taken away
"""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

PROGRAMS = ("gcloud", "kubectl", "xpk")
NEXT_STATES = {
    "WAITING_FOR_RESOURCES": "PROVISIONING",
    "PROVISIONING": "ACTIVE",
    "SUSPENDING": "SUSPENDED",
}
MARK = "SIMULATED_HOST"
# The metadata of a machine of Compute Engine: the numbers that machines have in a slice are not in the order of their names.
_CURL = """#!/bin/sh
case "$SIMULATED_HOST" in
*-z-w0) echo 0 ;;
*-y-w0) echo 1 ;;
*-x-w0) echo 2 ;;
*) echo 3 ;;
esac
"""
_UV = """#!/bin/sh
# Makes an environment of the interpreter that runs the tests, with the checkout of this machine in it.
if [ "$1" = venv ]; then
  for word; do environment="$word"; done
  mkdir -p "$environment/bin"
  printf '#!/bin/sh\\nexec {python} "$@"\\n' >"$environment/bin/python"
  printf '#!/bin/sh\\nPYTHONPATH="$HOME/t5like" exec {python} -m t5like "$@"\\n' >"$environment/bin/t5like"
  chmod +x "$environment/bin/python" "$environment/bin/t5like"
fi
echo "$@" >>"$HOME/uv-was-told"
"""


class Cloud:
    """The state of a simulated cloud, in a folder."""

    def __init__(self, folder: pathlib.Path):
        """Opens the cloud of a folder."""
        self.folder = folder

    @classmethod
    def make(cls, folder: pathlib.Path, **faults: object) -> "Cloud":
        """Returns a new cloud.

        Args:
          faults: what goes wrong: `refused`, what is said to all requests; `failing_creations`, how many requests fail; `failing_calls`, how many logins fail;
            `slow_seconds`, how long each takes; `host_variables`, what the machines say of themselves.
        """
        cloud = cls(folder)
        (folder / "bin").mkdir(parents=True)
        (folder / "host-bin").mkdir()
        for program in PROGRAMS:
            path = folder / "bin" / program
            path.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {__file__} {folder} {program} "$@"\n')
            path.chmod(0o755)
        programs = {"uv": _UV.format(python=sys.executable), "sudo": "#!/bin/sh\nexit 1\n", "curl": _CURL}
        for name, text in programs.items():
            (folder / "host-bin" / name).write_text(text)
            (folder / "host-bin" / name).chmod(0o755)
        (folder / "state.json").write_text(json.dumps({"faults": faults, "made": {}, "dead": []}))
        return cloud

    def environment(self) -> dict[str, str]:
        """Returns the variables with which this cloud is the one that is found."""
        return {**os.environ, "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    @contextlib.contextmanager
    def opened(self):
        """Gives the state, to read and change."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = json.loads((self.folder / "state.json").read_text())
            yield state
            new = self.folder / "state.new"
            new.write_text(json.dumps(state))
            new.replace(self.folder / "state.json")

    def made(self, kind: str, name: str) -> dict | None:
        """Returns something that was made, None if it is not there."""
        with self.opened() as state:
            return state["made"].get(f"{kind}/{name}")

    def calls(self) -> list[list[str]]:
        """Returns all command lines so far."""
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def home(self, machine: str, worker: int = 0) -> pathlib.Path:
        """Returns the home folder on a machine."""
        return self.folder / "hosts" / f"{machine}-w{worker}"

    def preempt(self, name: str) -> None:
        """Takes a queued resource away, with all that runs on it and all that lies there."""
        with self.opened() as state:
            state["made"][f"queued-resources/{name}"]["state"] = "SUSPENDING"
        self.remove_hosts(name)

    def kill_host(self, machine: str, worker: int) -> None:
        """Lets a machine stop to answer, for ever."""
        with self.opened() as state:
            state["dead"].append(str(self.home(machine, worker)))
        _kill_all(str(self.home(machine, worker)))

    def remove_hosts(self, name: str) -> None:
        """Ends all that runs on the machines of a name and removes their folders."""
        for home in (self.folder / "hosts").glob(f"{name}*-w*"):
            gone = home.with_name(f"gone-{time.time_ns()}")
            home.rename(gone)
            _kill_all(str(home))
            shutil.rmtree(gone, ignore_errors=True)

    def close(self) -> None:
        """Ends whatever still runs."""
        _kill_all(str(self.folder))


def _kill_all(mark: str) -> None:
    """Kills the processes whose machine is, or lies in, a folder."""
    for _ in range(2):  # what was being started when the first look was taken
        for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                variables = path.read_bytes().split(b"\0")
                if any(v.startswith(f"{MARK}={mark}".encode()) for v in variables):
                    os.kill(int(path.parent.name), signal.SIGKILL)


def _flags(words: list[str]) -> dict[str, str]:
    return {
        name: value
        for name, _, value in (
            word.removeprefix("--").partition("=") for word in words if word.startswith("--")
        )
    }


def _fail(code: int, words: str) -> int:
    print(f"ERROR: {words}", file=sys.stderr)
    return code


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Program:
    """One call of a program."""

    def __init__(self, cloud: Cloud, words: list[str]):
        self.cloud, self.words, self.flags = cloud, words, _flags(words)
        self.names = [word for word in words if not word.startswith("--")]

    def run(self) -> int:
        """Returns its exit code."""
        with (self.cloud.folder / "calls.jsonl").open("a") as file:
            file.write(json.dumps(self.words) + "\n")
        match self.names:
            case ["gcloud", "alpha" | "beta", *rest]:
                return self._gcloud(rest)
            case ["gcloud", *rest]:
                return self._gcloud(rest)
            case ["kubectl", *rest]:
                return self._kubectl(rest)
            case ["xpk", "cluster", "create"]:
                # What is missing of a cluster that exists is made.
                with self.cloud.opened() as state:
                    state["made"][f"clusters/{self.flags['cluster']}"] = {
                        "state": "RUNNING",
                        "has_queue": True,
                        "made_for": self.flags["cluster"],
                    }
                return 0
            case ["xpk", "cluster", "delete"]:
                return self._unmake("clusters", self.flags["cluster"])
        return _fail(2, "no such program")

    def _gcloud(self, names: list[str]) -> int:
        match names:
            case ["compute", "tpus", "queued-resources", "create", name]:
                return self._make("queued-resources", name, self._queued())
            case ["compute", "tpus", "queued-resources", "describe", name]:
                return self._describe("queued-resources", name)
            case ["compute", "tpus", "queued-resources", "delete", name]:
                self.cloud.remove_hosts(name)
                return self._unmake("queued-resources", name)
            case ["compute", "tpus", "tpu-vm", "ssh", node]:
                return self._ssh(node, int(self.flags["worker"]))
            case ["compute", "tpus", "tpu-vm", "scp", file, place]:
                node, _, path = place.partition(":")
                return self._scp(file, node, int(self.flags["worker"]), path)
            case ["compute", "instance-groups", "managed", "create", name]:
                return self._make("groups", name, {"state": "RUNNING", "size": int(self.flags["size"])})
            case ["compute", "instance-groups", "managed", "list-instances", name]:
                return self._list_instances(name)
            case ["compute", "instance-groups", "managed", "delete", name]:
                self.cloud.remove_hosts(name)
                return self._unmake("groups", name)
            case ["compute", "ssh", machine]:
                return self._ssh(machine, 0)
            case ["compute", "scp", file, place]:
                machine, _, path = place.partition(":")
                return self._scp(file, machine, 0, path)
            case ["container", "node-pools", "create", name]:
                return self._make("pools", name, {"state": "RUNNING"})
            case ["container", "node-pools", "describe", name]:
                return self._describe("pools", name)
            case ["container", "node-pools", "delete", name]:
                return self._unmake("pools", name)
            case ["artifacts", "docker", "images", "describe", _]:
                with self.cloud.opened() as state:
                    return 0 if "images/image" in state["made"] else _fail(1, "NOT_FOUND: image")
            case ["builds", "submit", _]:
                return self._make("images", "image", {})
            case ["container", "clusters", "describe", name]:
                return self._describe("clusters", name)
            case ["container", "clusters", "get-credentials", _] | ["artifacts", "repositories", "create", _]:
                return 0
            case ["compute", ("resource-policies" | "instance-templates") as kind, "create", *_, name]:
                return self._make(kind, name, {})
            case ["compute", ("resource-policies" | "instance-templates") as kind, "delete", name]:
                return self._unmake(kind, name)
        return _fail(2, f"this cloud does not know: {' '.join(names)}")

    def _make(self, kind: str, name: str, what: dict) -> int:
        with self.cloud.opened() as state:
            if "refused" in state["faults"]:
                return _fail(1, state["faults"]["refused"])
            if f"{kind}/{name}" in state["made"]:
                return _fail(1, f"ALREADY_EXISTS: {name}")
            state["made"][f"{kind}/{name}"] = what
        return 0

    def _unmake(self, kind: str, name: str) -> int:
        with self.cloud.opened() as state:
            if state["faults"].get("failing_deletions", 0) > 0:
                state["faults"]["failing_deletions"] -= 1
                return _fail(1, "try again later")
            found = state["made"].pop(f"{kind}/{name}", None)
        return _fail(1, f"NOT_FOUND: {name}") if found is None else 0

    def _queued(self) -> dict:
        """Returns a new queued resource."""
        nodes = [self.flags["node-id"]] if "node-id" in self.flags else []
        nodes += [f"{self.flags['node-prefix']}-{i}" for i in range(int(self.flags.get("node-count", 0)))]
        kind, _, number = self.flags["accelerator-type"].rpartition("-")
        num_chips = int(number) // (2 if kind in ("v4", "v5p") else 1)
        return {
            "state": "WAITING_FOR_RESOURCES",
            "nodes": nodes,
            "num_hosts": 1 if num_chips <= 8 and kind not in ("v4", "v5p") else num_chips // 4,
            "port": _free_port(),
        }

    def _describe(self, kind: str, name: str) -> int:
        with self.cloud.opened() as state:
            found = state["made"].get(f"{kind}/{name}")
            if found is None:
                return _fail(1, f"NOT_FOUND: {name}")
            print(*(found[field] for field in ("state", "made_for") if field in found), sep="\t")
            faults = state["faults"]
            if found["state"] == "PROVISIONING" and faults.get("failing_creations", 0) > 0:
                faults["failing_creations"] -= 1
                found["state"] = "FAILED"
            else:
                found["state"] = NEXT_STATES.get(found["state"], found["state"])
            if found["state"] == "ACTIVE" and "nodes" in found:
                for node in found["nodes"]:
                    for worker in range(found["num_hosts"]):
                        self.cloud.home(node, worker).mkdir(parents=True, exist_ok=True)
        return 0

    def _list_instances(self, name: str) -> int:
        with self.cloud.opened() as state:
            found = state["made"].get(f"groups/{name}")
            if found is None:
                return _fail(1, f"The resource {name} was not found")
            machines = [f"{name}-{letter}" for letter in "zyxwvuts"[: found["size"]]]
            for machine in machines:
                self.cloud.home(machine).mkdir(parents=True, exist_ok=True)
            rows = [
                {"instance": f"https://x/{m}", "instanceStatus": found["state"], "currentAction": "NONE"}
                for m in machines
            ]
            print(json.dumps(rows))
        return 0

    def _reach(self, machine: str, worker: int) -> tuple[pathlib.Path | None, dict[str, str]]:
        """Returns the home of a machine and what it says of itself; None if it cannot be reached now."""
        home = self.cloud.home(machine, worker)
        with self.cloud.opened() as state:
            faults = state["faults"]
            is_silent = str(home) in state["dead"] or not home.is_dir()
            if faults.get("failing_calls", 0) > 0 and not is_silent:
                faults["failing_calls"] -= 1
                is_silent = True
            queued = [v for k, v in state["made"].items() if machine in v.get("nodes", ())]
            variables = dict(faults.get("host_variables", {}))
            if queued:
                each = queued[0]["num_hosts"]
                variables |= {
                    "T5LIKE_COORDINATOR": f"127.0.0.1:{queued[0]['port']}",
                    "T5LIKE_NUM_HOSTS": str(each * len(queued[0]["nodes"])),
                    "T5LIKE_HOST": str(queued[0]["nodes"].index(machine) * each + worker),
                    "T5LIKE_HOST_NAME": f"{machine}-w{worker}",
                }
        time.sleep(faults.get("slow_seconds", 0.0))
        return None if is_silent else home, variables

    def _ssh(self, machine: str, worker: int) -> int:
        home, variables = self._reach(machine, worker)
        if home is None:
            return _fail(255, f"ssh: connect to host {machine} port 22: Connection timed out")
        path = f"{self.cloud.folder / 'host-bin'}:/usr/local/bin:/usr/bin:/bin"
        environment = {"HOME": str(home), "PATH": path, MARK: str(home), **variables}
        return subprocess.run(
            ["bash", "-c", self.flags["command"]], cwd=home, env=environment, stdin=subprocess.DEVNULL
        ).returncode

    def _scp(self, file: str, machine: str, worker: int, path: str) -> int:
        home, _ = self._reach(machine, worker)
        if home is None:
            return _fail(255, f"ssh: connect to host {machine} port 22: Connection timed out")
        shutil.copy(file, home / path)
        return 0

    def _kubectl(self, names: list[str]) -> int:
        match names:
            case ["apply"]:
                return self._make("jobset", "jobset", {"manifest": json.load(sys.stdin), "status": {}})
            case ["get", "jobset", name]:
                with self.cloud.opened() as state:
                    found = state["made"].get("jobset/jobset")
                    if found is None:
                        return _fail(1, f'Error from server (NotFound): jobsets "{name}" not found')
                    print(json.dumps({**found["manifest"], "status": found["status"]}))
                return 0
            case ["get", "pods"]:
                with self.cloud.opened() as state:
                    print(json.dumps({"items": state["faults"].get("pods", [])}))
                return 0
            case ["logs", name]:
                print(f"the log of {name}")
                return 0
            case ["delete", "jobset", _]:
                self._unmake("jobset", "jobset")
                return 0
            case ["delete" | "create", "secret", *_]:
                return 0
            case ["get", "customresourcedefinition", _]:
                return 0
            case ["get", "localqueue", name]:
                with self.cloud.opened() as state:
                    cluster = state["made"][f"clusters/{self.flags['context'].rpartition('_')[2]}"]
                if state["faults"].get("has_no_kubectl"):
                    return _fail(1, "Unable to connect to the server")
                if not cluster["has_queue"]:
                    return _fail(1, 'the server doesn\'t have a resource type "localqueue"')
                return 0
        return _fail(2, f"this cloud does not know: {' '.join(names)}")


if __name__ == "__main__":
    sys.exit(Program(Cloud(pathlib.Path(sys.argv[1])), sys.argv[2:]).run())
