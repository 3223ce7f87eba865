"""Which hosts a run has: by what the user says, by SLURM, by Cloud TPU VMs."""

import pytest

from t5like.errors import UserError
from t5like.hosts import find
from t5like.hosts.find import Hosts, find_hosts, nodes_of

PLAIN = {"T5LIKE_COORDINATOR": "10.0.0.1:8476", "T5LIKE_NUM_HOSTS": "4", "T5LIKE_HOST": "2"}
# What srun gives to the second of three tasks, one a node.
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_NODELIST": "node[09-10],gpu7",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
    "SLURMD_NODENAME": "node10",
}
ENDPOINTS = "unknown:unknown:10.1.0.3,unknown:unknown:10.1.0.4"


def nothing(attribute: str) -> str | None:
    """Returns what a machine without metadata tells."""
    return None


@pytest.fixture(autouse=True)
def no_tpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the machine that runs the tests out of it."""
    monkeypatch.setattr(find, "_has_tpu", lambda environment: False)


def test_a_process_that_nothing_is_said_of_is_alone() -> None:
    assert find_hosts({}) is None
    assert find_hosts({}, nothing) is None


def test_plain_processes_are_told() -> None:
    hosts = find_hosts({**PLAIN, "T5LIKE_HOST_NAME": "west"})
    assert hosts == Hosts(2, 4, "10.0.0.1:8476", "west")
    assert hosts is not None
    assert (hosts.called(3), hosts.called(3, "east")) == ("Host 3 of 4", "Host 3 of 4 (east)")


@pytest.mark.parametrize("missing", PLAIN)
def test_half_of_what_plain_processes_need_is_no_use(missing: str) -> None:
    told = {name: value for name, value in PLAIN.items() if name != missing}
    with pytest.raises(UserError, match=f"^{missing} is not set: "):
        find_hosts(told)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("T5LIKE_HOST", "4", "T5LIKE_HOST is 4, but T5LIKE_NUM_HOSTS is 4: the hosts are 0 to 3."),
        ("T5LIKE_HOST", "-1", "T5LIKE_HOST is '-1', but must be a whole number."),
        ("T5LIKE_NUM_HOSTS", "two", "T5LIKE_NUM_HOSTS is 'two', but must be a whole number."),
        (
            "T5LIKE_COORDINATOR",
            "10.0.0.1",
            "T5LIKE_COORDINATOR is '10.0.0.1', but must be ADDRESS:PORT of host 0.",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(name: str, value: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        find_hosts({**PLAIN, name: value})
    assert str(error.value) == sentence


def test_one_host_is_no_several_wherever_it_runs() -> None:
    assert find_hosts({"T5LIKE_NUM_HOSTS": "1"}) is None
    assert find_hosts({**SLURM, "T5LIKE_NUM_HOSTS": "1"}) is None
    assert find_hosts({**SLURM, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}) is None


def test_tasks_of_a_slurm_step_are_hosts() -> None:
    hosts = find_hosts(SLURM)
    assert hosts is not None
    assert hosts[:2] == (1, 3)
    assert hosts.names == ("node09", "node10", "gpu7")
    address, _, port = hosts.coordinator.partition(":")
    assert address == "node09"
    assert 61440 <= int(port) < 65536
    # All tasks of a step meet at one place, jobs on the same nodes at others.
    assert find_hosts({**SLURM, "SLURM_PROCID": "2"})[2] == hosts.coordinator  # type: ignore[index]
    assert find_hosts({**SLURM, "SLURM_JOB_ID": "4712"})[2] != hosts.coordinator  # type: ignore[index]
    assert find_hosts({**SLURM, "T5LIKE_PORT": "7000"})[2] == "node09:7000"  # type: ignore[index]


def test_tasks_that_share_a_node_have_a_device_each() -> None:
    assert find_hosts(SLURM).local_device is None  # type: ignore[union-attr]
    shared = find_hosts({**SLURM, "SLURM_STEP_NUM_TASKS": "6", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"})
    assert shared is not None
    assert (shared.local_device, shared.names) == (1, ())


def test_a_batch_script_is_no_step() -> None:
    # The script that srun has yet to be called in sees the number of tasks, and is not one of them.
    script = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "3", "SLURM_PROCID": "0", "SLURM_JOB_NODELIST": "a,b,c"}
    assert find_hosts(script) is None


@pytest.mark.parametrize(
    ("node_list", "nodes"),
    [
        ("a", ["a"]),
        ("a,b7", ["a", "b7"]),
        ("a[01-03,7],b", ["a01", "a02", "a03", "a7", "b"]),
        ("r[1-2]n[08-09]", ["r1n08", "r1n09", "r2n08", "r2n09"]),
        ("a[9-11].cluster", ["a9.cluster", "a10.cluster", "a11.cluster"]),
    ],
)
def test_slurm_lists_of_nodes(node_list: str, nodes: list[str]) -> None:
    assert nodes_of(node_list) == nodes


def test_workers_of_a_tpu_slice_are_hosts() -> None:
    told = {"agent-worker-number": "1", "worker-network-endpoints": ENDPOINTS}
    hosts = find_hosts({}, told.get)
    assert hosts is not None
    assert (hosts.host, hosts.num_hosts, hosts.names) == (1, 2, ("10.1.0.3", "10.1.0.4"))
    assert hosts.coordinator == "10.1.0.3:8479"
    # The newer layout, of names alone, and what Kubernetes sets.
    assert find_hosts({}, {**told, "worker-network-endpoints": "10.1.0.3,10.1.0.4"}.get) == hosts
    set_there = {"TPU_WORKER_HOSTNAMES": "10.1.0.3,10.1.0.4", "TPU_WORKER_ID": "1"}
    assert find_hosts(set_there, nothing) == hosts


def test_a_tpu_machine_by_itself_is_one_host() -> None:
    alone = {"agent-worker-number": "0", "worker-network-endpoints": "unknown:unknown:10.1.0.3"}
    assert find_hosts({}, alone.get) is None
    assert find_hosts({"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, nothing) is None


def test_hosts_of_several_slices_are_counted_through() -> None:
    tpu_env = "ACCELERATOR_TYPE: 'v5litepod-8'\nMEGASCALE_NUM_SLICES: '2'\nMEGASCALE_SLICE_ID: '1'\n"
    told = {
        "agent-worker-number": "1",
        "worker-network-endpoints": ENDPOINTS.replace("10.1", "10.2"),
        "tpu-env": f"{tpu_env}MEGASCALE_COORDINATOR_ADDRESS: '10.1.0.3:8080'\n",
    }
    hosts = find_hosts({}, told.get)
    assert hosts is not None
    # The second worker of the second slice; the first of the first is where they meet.
    assert hosts[:3] == (3, 4, "10.1.0.3:8479")


def test_what_the_user_says_goes_first() -> None:
    assert find_hosts({**SLURM, **PLAIN})[:2] == (2, 4)  # type: ignore[index]
