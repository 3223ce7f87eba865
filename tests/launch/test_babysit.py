"""Staying with a job through whatever becomes of its slices, on a simulated cloud with real processes for hosts."""

import json
import pathlib
import signal
import time
from collections.abc import Callable

import pytest

from tests.launch.cloud import Cloud
from tests.launch.conftest import Launcher

MakeLauncher = Callable[..., Launcher]
FAST = ("--poll_seconds", "0.05")
ENOUGH_SECONDS = 60.0


def told(cloud: Cloud, *words: str) -> list[int]:
    """Returns where in the calls those are that hold all these words."""
    return [
        i for i, call in enumerate(cloud.calls()) if all(any(word in part for part in call) for word in words)
    ]


def wait_for(what: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < ENOUGH_SECONDS
        time.sleep(0.02)


def counting(tmp_path: pathlib.Path, script: str) -> tuple[str, ...]:
    """Returns a command that adds a line to tmp_path/began and goes on with a script of bash, in which $n is how many."""
    return ("bash", "-c", f"echo x >>{tmp_path}/began; n=$(wc -l <{tmp_path}/began); {script}")


def num_begun(tmp_path: pathlib.Path) -> int:
    path = tmp_path / "began"
    return len(path.read_text().split()) if path.exists() else 0


def test_a_job_is_brought_to_its_end_and_nothing_is_left_that_costs(launcher: MakeLauncher) -> None:
    launch = launcher()
    done = launch(*FAST, "babysit", "echo", "it is", "'done'")
    assert done.returncode == 0, done.stderr
    assert launch.log(1) == "it is 'done'\n"
    assert launch.cloud.made("queued-resources", "base") is None
    assert "it is done; the slices are given back" in done.stderr
    (deleted,) = told(launch.cloud, "queued-resources", "delete")
    assert told(launch.cloud, "job.sh log")[-1] < deleted, "logs come first"


def test_ctrl_c_leaves_the_job_to_itself(launcher: MakeLauncher, tmp_path: pathlib.Path) -> None:
    launch = launcher()
    command = counting(tmp_path, f"until [ -e {tmp_path}/go ]; do sleep 0.1; done; echo end")
    with launch.start(*FAST, "babysit", *command) as process:
        wait_for(lambda: num_begun(tmp_path) == 1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("interrupted; what runs on the slices goes on")
    assert "Traceback" not in err
    (tmp_path / "go").touch()
    assert launch(*FAST, "babysit", *command).returncode == 0
    assert num_begun(tmp_path) == 1
    assert launch.log(1) == "end\n"


def test_slices_stay_if_the_user_says_so(launcher: MakeLauncher) -> None:
    launch = launcher()
    assert launch(*FAST, "--keep_slices", "babysit", "true").returncode == 0
    assert launch.cloud.made("queued-resources", "base")["state"] == "ACTIVE"


@pytest.mark.parametrize("code", [2, 3, 5, 6, 127])
def test_what_a_restart_cannot_cure_is_not_restarted(
    launcher: MakeLauncher, tmp_path: pathlib.Path, code: int
) -> None:
    launch = launcher()
    done = launch(*FAST, "babysit", *counting(tmp_path, f"echo no; exit {code}"))
    assert done.returncode == code
    assert num_begun(tmp_path) == 1
    assert f"ended with {code}, which no restart cures" in done.stderr
    assert launch.log(1) == "no\n"
    assert launch.cloud.made("queued-resources", "base") is None


@pytest.mark.parametrize("end", ["exit 4", "exit 7", "exit 8", "exit 1", "kill -9 $$"])
def test_what_a_restart_can_cure_is_restarted(
    launcher: MakeLauncher, tmp_path: pathlib.Path, end: str
) -> None:
    launch = launcher()
    done = launch(*FAST, "babysit", *counting(tmp_path, f'[ "$n" -gt 2 ] || {{ {end}; }}; echo "good $n"'))
    assert done.returncode == 0, done.stderr
    assert num_begun(tmp_path) == 3
    assert launch.log(3) == "good 3\n"
    assert len(told(launch.cloud, "queued-resources", "create")) == 1, "the slices were good"


def test_a_job_that_always_fails_is_given_up(launcher: MakeLauncher, tmp_path: pathlib.Path) -> None:
    launch = launcher()
    done = launch(*FAST, "--max_failures", "2", "babysit", *counting(tmp_path, "exit 1"))
    assert done.returncode == 1
    assert num_begun(tmp_path) == 3
    assert "it ended with 1, after 3 attempts" in done.stderr
    assert launch.cloud.made("queued-resources", "base") is None


def test_a_preempted_slice_is_made_anew_and_the_job_goes_on(
    launcher: MakeLauncher, tmp_path: pathlib.Path
) -> None:
    launch = launcher()
    command = counting(tmp_path, 'echo "begins $n"; [ "$n" -gt 2 ] || sleep 300')
    with launch.start(*FAST, "babysit", *command) as process:
        for number in (1, 2):
            log = tmp_path / "logs" / f"attempt-{number}" / "base-w0.log"
            wait_for(lambda log=log: log.exists() and log.read_text() != "")
            launch.cloud.preempt("base")
        _, err = process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == 0, err
    assert [launch.log(number) for number in (1, 2, 3)] == [f"begins {number}\n" for number in (1, 2, 3)]
    assert len(told(launch.cloud, "queued-resources", "create")) == 3
    assert "the slices are taken away" in err


def test_requests_that_fail_are_made_again_but_not_for_ever(launcher: MakeLauncher) -> None:
    launch = launcher(failing_creations=2)
    assert launch(*FAST, "babysit", "true").returncode == 0
    assert len(told(launch.cloud, "queued-resources", "create")) == 3


def test_requests_that_always_fail_are_given_up(launcher: MakeLauncher) -> None:
    launch = launcher(failing_creations=100)
    done = launch(*FAST, "--max_failures", "3", "babysit", "true")
    assert done.returncode == 1
    assert "the slices have failed 4 times in a row: try another zone" in done.stderr
    assert len(told(launch.cloud, "queued-resources", "create")) == 4
    assert launch.cloud.made("queued-resources", "base") is None


def test_logins_that_fail_now_and_then_and_slow_hosts_do_no_harm(launcher: MakeLauncher) -> None:
    launch = launcher(failing_calls=4, slow_seconds=0.3)
    done = launch(*FAST, "babysit", "echo", "good")
    assert done.returncode == 0, done.stderr
    assert launch.log(1) == "good\n"


def test_a_job_somebody_stopped_is_not_begun_again(launcher: MakeLauncher, tmp_path: pathlib.Path) -> None:
    launch = launcher()
    with launch.start(*FAST, "babysit", *counting(tmp_path, "sleep 300")) as process:
        wait_for(lambda: num_begun(tmp_path) == 1)
        assert launch("--grace_seconds", "5", "stop").returncode == 0
        _, err = process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == 130
    assert "somebody has stopped it; the slices are still there, and cost" in err
    assert num_begun(tmp_path) == 1


def test_a_second_babysitter_goes_on_where_the_first_was_killed(
    launcher: MakeLauncher, tmp_path: pathlib.Path
) -> None:
    launch = launcher()
    command = counting(tmp_path, f"until [ -e {tmp_path}/go ]; do sleep 0.05; done; echo end")
    with launch.start(*FAST, "babysit", *command) as process:
        wait_for(lambda: num_begun(tmp_path) == 1)
        process.kill()
    (tmp_path / "go").touch()
    assert launch(*FAST, "babysit", *command).returncode == 0
    assert num_begun(tmp_path) == 1
    assert launch.log(1) == "end\n"


def test_kubernetes_is_left_to_restart_and_its_end_is_heeded(launcher: MakeLauncher) -> None:
    launch = launcher("gke")
    with launch.start(*FAST, "babysit", "t5like", "pretrain", "a b.py") as process:
        wait_for(lambda: launch.cloud.made("jobset", "jobset") is not None)
        (manifest,) = [launch.cloud.made("jobset", "jobset")["manifest"]]
        with launch.cloud.opened() as state:
            state["faults"]["pods"] = [{"metadata": {"name": "pod-1"}}]
            state["made"]["jobset/jobset"]["status"] = {"terminalState": "Completed"}
        _, err = process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == 0, err
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["template"]["spec"]["containers"][0]["command"] == ["t5like", "pretrain", "a b.py"]
    assert (launch.folder / "logs" / "pod-1.log").read_text() == "the log of pod-1\n"
    assert launch.cloud.made("pools", "base-0") is None


def test_a_job_on_kubernetes_that_somebody_stopped_is_not_begun_again(launcher: MakeLauncher) -> None:
    launch = launcher("gke")
    with launch.start(*FAST, "babysit", "true") as process:
        wait_for(
            lambda: len(told(launch.cloud, "kubectl", "jobset")) > 4 and bool(told(launch.cloud, "apply"))
        )
        wait_for(lambda: told(launch.cloud, "get", "jobset")[-1] > told(launch.cloud, "apply")[-1] + 4)
        assert launch("stop").returncode == 0
        _, err = process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == 130, err
    assert len(told(launch.cloud, "kubectl", "apply")) == 1


def test_logs_that_cannot_be_written_do_not_leave_the_job_alone(
    launcher: MakeLauncher, tmp_path: pathlib.Path
) -> None:
    launch = launcher()
    script = f"rm -rf {tmp_path}/logs; touch {tmp_path}/logs; echo x"
    done = launch(*FAST, "babysit", "bash", "-c", script)
    assert done.returncode == 0, done.stderr
    assert "the last of these logs could not be had" in done.stderr
    assert launch.cloud.made("queued-resources", "base") is None
    refused = launch("--logs", f"{tmp_path}/logs/x", *FAST, "babysit", "true")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr


def test_kubernetes_fails_with_the_code_of_its_pod(launcher: MakeLauncher) -> None:
    status = {"containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}
    launch = launcher("gke", pods=[{"metadata": {"name": "pod-1"}, "status": status}])
    with launch.start(*FAST, "babysit", "true") as process:
        wait_for(lambda: launch.cloud.made("jobset", "jobset") is not None)
        with launch.cloud.opened() as state:
            state["made"]["jobset/jobset"]["status"] = {"terminalState": "Failed"}
        process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == 3
    assert len(told(launch.cloud, "kubectl", "apply")) == 1
    assert launch.cloud.made("pools", "base-0") is None


def test_xpk_makes_a_cluster_whole_and_deletes_it(launcher: MakeLauncher) -> None:
    launch = launcher("xpk")
    # The making of it was interrupted.
    _has_cluster(launch.cloud, "base", has_queue=False, made_for="base")
    with launch.start(*FAST, "babysit", "true") as process:
        _complete_jobset(launch.cloud)
        _, err = process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == 0, err
    assert len(told(launch.cloud, "xpk", "create")) == 1
    assert len(told(launch.cloud, "xpk", "delete")) == 1
    assert launch.cloud.made("clusters", "base") is None
    assert launch("delete").returncode == 0, "twice is as good as once"


def test_a_cluster_that_others_use_gets_the_job_into_its_queue_and_stays(launcher: MakeLauncher) -> None:
    launch = launcher("xpk-shared")
    refused = launch(*FAST, "babysit", "true")
    assert refused.returncode == 2
    assert "There is no cluster c with a queue of xpk's" in refused.stderr
    _has_cluster(launch.cloud, "c", has_queue=True)
    with launch.start(*FAST, "babysit", "true") as process:
        manifest = _complete_jobset(launch.cloud)
        _, err = process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == 0, err
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "multislice-queue"
    assert launch.cloud.made("jobset", "jobset") is None
    assert launch.cloud.made("clusters", "c") is not None
    assert "the cluster keeps its slices" in err
    assert not told(launch.cloud, "xpk")


@pytest.mark.parametrize("action", [("create",), ("run", "true"), ("delete",), ("babysit", "true")])
def test_a_cluster_of_that_name_that_was_not_made_here_is_left_alone(
    launcher: MakeLauncher, action: tuple[str, ...]
) -> None:
    launch = launcher("xpk")
    _has_cluster(launch.cloud, "base", has_queue=True)
    refused = launch(*FAST, *action)
    assert refused.returncode == 2
    assert "The cluster base was not made here; give another --name, or --cluster base" in refused.stderr
    assert not told(launch.cloud, "xpk")
    assert not told(launch.cloud, "kubectl", "delete")


def test_a_cluster_that_answers_no_more_is_deleted_all_the_same(launcher: MakeLauncher) -> None:
    launch = launcher("xpk", has_no_kubectl=True)
    _has_cluster(launch.cloud, "base", has_queue=True, made_for="base")
    launch("delete")
    assert launch.cloud.made("clusters", "base") is None


def test_a_job_in_a_queue_is_said_to_be_there(launcher: MakeLauncher) -> None:
    launch = launcher("xpk-shared")
    _has_cluster(launch.cloud, "c", has_queue=True)
    for words in (("setup",), ("run", "true")):
        assert launch(*words).returncode == 0
    with launch.cloud.opened() as state:
        state["made"]["jobset/jobset"]["manifest"]["spec"]["suspend"] = True
    assert "the JobSet, in a queue" in launch("status").stdout


def _has_cluster(cloud: Cloud, name: str, *, has_queue: bool, made_for: str = "") -> None:
    with cloud.opened() as state:
        cluster = {"state": "RUNNING", "has_queue": has_queue, "made_for": made_for}
        state["made"][f"clusters/{name}"] = cluster


def _complete_jobset(cloud: Cloud) -> dict:
    """Lets the job on Kubernetes be done, once there is one; returns its manifest."""
    wait_for(lambda: cloud.made("jobset", "jobset") is not None)
    with cloud.opened() as state:
        state["made"]["jobset/jobset"]["status"] = {"terminalState": "Completed"}
        return state["made"]["jobset/jobset"]["manifest"]


def test_hosts_on_compute_engine_are_told_of_one_another(launcher: MakeLauncher) -> None:
    launch = launcher("gce")
    words = ("--type", "v5p-16", "--zone", "us-east5-b", "--slices", "2")
    shows = 'echo "$T5LIKE_HOST of $T5LIKE_NUM_HOSTS at $T5LIKE_COORDINATOR, slice $MEGASCALE_SLICE_ID"'
    done = launch(*words, *FAST, "babysit", "bash", "-c", shows)
    assert done.returncode == 0, done.stderr
    for number, host in enumerate(("base-0-z", "base-0-y", "base-1-z", "base-1-y")):
        assert launch.log(1, host) == f"{number} of 4 at base-0-z:8479, slice {number // 2}\n"
    for kind, name in (("groups", "base-0"), ("groups", "base-1"), ("instance-templates", "base")):
        assert launch.cloud.made(kind, name) is None
    assert launch.cloud.made("resource-policies", "base") is None


def test_machines_of_compute_engine_that_are_taken_away_are_asked_for_anew(
    launcher: MakeLauncher, tmp_path: pathlib.Path
) -> None:
    launch = launcher("gce")
    words = ("--type", "v6e-8", "--zone", "us-east5-b")
    with launch.start(
        *words, *FAST, "babysit", *counting(tmp_path, '[ "$n" -gt 1 ] || sleep 300')
    ) as process:
        wait_for(lambda: num_begun(tmp_path) == 1)
        with launch.cloud.opened() as state:
            state["made"]["groups/base-0"]["size"] = 0
        launch.cloud.remove_hosts("base-0")
        _, err = process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == 0, err
    assert num_begun(tmp_path) == 2


def test_delete_removes_what_is_left_where_a_part_is_missing(launcher: MakeLauncher) -> None:
    launch = launcher("gce")
    words = ("--type", "v6e-8", "--zone", "us-east5-b", "--slices", "2")
    assert launch(*words, "create").returncode == 0
    with launch.cloud.opened() as state:
        del state["made"]["groups/base-1"]
    assert launch(*words, "delete").returncode == 0
    assert launch.cloud.made("groups", "base-0") is None
    assert launch.cloud.made("instance-templates", "base") is None
    assert launch(*words, "delete").returncode == 0, "twice is as good as once"


def test_a_job_that_is_done_is_not_run_again_when_its_slices_cannot_be_given_back(
    launcher: MakeLauncher, tmp_path: pathlib.Path
) -> None:
    launch = launcher(failing_deletions=3)
    done = launch(*FAST, "babysit", *counting(tmp_path, "true"))
    assert done.returncode == 0, done.stderr
    assert num_begun(tmp_path) == 1
    assert launch.cloud.made("queued-resources", "base") is None


def test_what_another_command_came_to_is_not_taken_for_this_one_s(
    launcher: MakeLauncher, tmp_path: pathlib.Path
) -> None:
    launch = launcher()
    assert launch(*FAST, "--keep_slices", "babysit", "true").returncode == 0
    assert launch(*FAST, "--keep_slices", "babysit", *counting(tmp_path, "exit 2")).returncode == 2
    assert num_begun(tmp_path) == 1
    assert launch(*FAST, "--keep_slices", "babysit", *counting(tmp_path, "exit 2")).returncode == 2
    assert num_begun(tmp_path) == 2, "whoever gives it again has mended something"
    with launch.cloud.opened() as state:
        state["faults"]["failing_calls"] = 3
    assert launch(*FAST, "--keep_slices", "babysit", *counting(tmp_path, "exit 2")).returncode == 2
    assert num_begun(tmp_path) == 3, "also if the hosts do not answer at first"
    assert launch(*FAST, "--keep_slices", "babysit", "true").returncode == 0
    assert launch(*FAST, "babysit", "true").returncode == 0
    assert len(list((tmp_path / "logs").iterdir())) == 5, "the last one was done already"


def test_a_command_that_runs_is_left_alone_by_another(launcher: MakeLauncher) -> None:
    launch = launcher()
    with launch.start(*FAST, "babysit", "sleep", "300") as process:
        wait_for(lambda: "running" in launch("status").stdout)
        done = launch(*FAST, "babysit", "true")
        assert done.returncode == 2
        assert "Another command runs on these slices" in done.stderr
        assert launch("doctor").returncode == 2
        assert process.poll() is None
        process.kill()


def test_the_doctor_examines_the_hosts(launcher: MakeLauncher) -> None:
    launch = launcher(
        host_variables={"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    )
    for _ in range(3):
        launch("create")
    assert launch("setup").returncode == 0
    done = launch("doctor", "--seconds", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok   devices    8 of cpu, hosts: 1" in done.stdout


def test_tokens_reach_the_job_and_no_command_line(launcher: MakeLauncher, tmp_path: pathlib.Path) -> None:
    (tmp_path / "tokens").write_text("TOKEN=very-secret\n")
    launch = launcher()
    done = launch("--env_file", str(tmp_path / "tokens"), *FAST, "babysit", "bash", "-c", 'echo "${#TOKEN}"')
    assert done.returncode == 0, done.stderr
    assert launch.log(1) == "11\n"
    assert "very-secret" not in json.dumps(launch.cloud.calls()) + done.stdout + done.stderr


def test_hosts_that_cannot_be_made_ready_are_given_back(launcher: MakeLauncher) -> None:
    launch = launcher()
    (launch.cloud.folder / "host-bin" / "uv").write_text("#!/bin/sh\necho no room >&2\nexit 1\n")
    done = launch(*FAST, "--max_failures", "1", "babysit", "true")
    assert done.returncode == 1
    assert "the hosts cannot be made ready" in done.stderr
    assert "no room" in done.stderr
    assert launch.cloud.made("queued-resources", "base") is None


def test_a_request_that_is_refused_is_not_made_for_ever(launcher: MakeLauncher) -> None:
    launch = launcher(refused="PERMISSION_DENIED: quota")
    done = launch(*FAST, "--max_failures", "2", "babysit", "true")
    assert done.returncode == 1
    assert "PERMISSION_DENIED: quota" in done.stderr
    assert len(told(launch.cloud, "queued-resources", "create")) == 3


def test_who_cannot_see_anything_at_all_ends_at_once(launcher: MakeLauncher) -> None:
    launch = launcher()
    (launch.cloud.folder / "bin" / "gcloud").write_text(
        "#!/bin/sh\necho 'ERROR: not logged in' >&2\nexit 1\n"
    )
    done = launch(*FAST, "babysit", "true")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("ended with 1: ERROR: not logged in")
