"""What can be asked for, and what is said of the rest."""

import pathlib
import shutil
import subprocess
import sys

import pytest

from launch.pod.__main__ import main
from launch.pod.machines import find_machines
from launch.pod.request import Request, describe_price, price_an_hour
from t5like.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOOD = {
    "--backend": "qr",
    "--name": "base",
    "--type": "v5e-16",
    "--zone": "us-east5-b",
    "--project": "p",
}


@pytest.mark.parametrize(
    ("name", "num_hosts", "chips_per_host", "machine_type", "shape"),
    [
        ("v4-8", 1, 4, "ct4p-hightpu-4t", "2x2x1"),
        ("v4-32", 4, 4, "ct4p-hightpu-4t", "2x2x4"),
        ("v5e-1", 1, 1, "ct5lp-hightpu-1t", "1x1"),
        ("v5e-4", 1, 4, "ct5lp-hightpu-4t", "2x2"),
        ("v5e-8", 1, 8, "ct5lp-hightpu-8t", "2x4"),
        ("v5e-16", 4, 4, "ct5lp-hightpu-4t", "4x4"),
        ("v5e-256", 64, 4, "ct5lp-hightpu-4t", "16x16"),
        ("v5p-8", 1, 4, "ct5p-hightpu-4t", "2x2x1"),
        ("v5p-64", 8, 4, "ct5p-hightpu-4t", "2x4x4"),
        ("v6e-8", 1, 8, "ct6e-standard-8t", "2x4"),
        ("v6e:4x8", 8, 4, "ct6e-standard-4t", "4x8"),
        ("tpu7x-128", 16, 4, "tpu7x-standard-4t", "4x4x4"),
    ],
)
def test_a_slice_is_so_many_machines(
    name: str, num_hosts: int, chips_per_host: int, machine_type: str, shape: str
) -> None:
    machines = find_machines(name)
    assert (machines.num_hosts, machines.chips_per_host) == (num_hosts, chips_per_host)
    assert (machines.machine_type, machines.shape) == (machine_type, shape)
    assert machines.num_hosts * machines.chips_per_host == machines.topology.num_chips


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"--backend": "tpu"}, "There is no backend 'tpu'; the backends are qr, gce, gke."),
        ({"--type": "v6e-15"}, "There is no TPU slice v6e-15; the nearest is v6e-16."),
        ({"--type": "v6f-16"}, "There is no TPU topology 'v6f-16'"),
        ({"--type": "tpu7x-128"}, "--backend qr has no tpu7x; take --backend gce or --backend gke."),
        (
            {"--type": "v4-8", "--backend": "gce"},
            "--backend gce has no v4; take --backend qr or --backend gke.",
        ),
        ({"--name": "Base"}, "--name 'Base' must be 1 to 37 of a-z, 0-9 and -"),
        ({"--zone": "us-east5"}, "--zone 'us-east5' is no zone; one is us-east1-d"),
        ({"--project": ""}, "--project is empty"),
        ({"--slices": "0"}, "--slices is 0, but must be at least 1."),
        ({"--slices": "two"}, "argument --slices: invalid int value: 'two'"),
        ({"--backend": "gke"}, "--backend gke needs --cluster"),
        ({"--xpk": None}, "--xpk goes with --backend gke; leave it out."),
        (
            {"--bucket": "gs://b/x"},
            "--bucket 'gs://b/x' is no name of a bucket; leave out gs:// and folders.",
        ),
        ({"--env_file": "nowhere"}, "--env_file nowhere is not a file."),
        ({"--reservation": "r"}, "--reservation goes with --reserved"),
        ({"--max_run_hours": "3"}, "--max_run_hours goes with --flex_start"),
        ({"--flex_start": None}, "--flex_start needs --max_run_hours"),
        ({"--flex_start": None, "--max_run_hours": "169"}, "--max_run_hours must be 1 to 168."),
        (
            {"--flex_start": None, "--max_run_hours": "3", "--type": "v4-8"},
            "--flex_start is not there for v4 with --backend qr, but for v5e, v6e.",
        ),
        ({"--backend": "gce", "--type": "v6e-16", "--reserved": None}, "--reserved needs --reservation"),
        ({"--spot": None, "--reserved": None}, "not allowed with argument"),
        ({"--zon": "x"}, "the following arguments are required|unrecognized"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_one_sentence(
    changes: dict[str, str | None], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [word for pair in {**GOOD, **changes}.items() for word in pair if word is not None]
    assert main([*argv, "--dry_run", "create"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert any(part in printed.err for part in sentence.split("|")), printed.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["creat"], "There is no action 'creat'; did you mean create?"),
        (["run"], "run needs a command after it"),
        (["babysit", "--"], "babysit needs a command after it"),
        (["create", "now"], "create takes nothing after it, but was given 'now'"),
    ],
)
def test_an_action_that_cannot_be_is_refused(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*(word for pair in GOOD.items() for word in pair), "--dry_run", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_help_lists_the_actions() -> None:
    done = subprocess.run(["bash", str(ROOT / "launch" / "pod.sh"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for word in ("babysit", "doctor", "--dry_run", "--flex_start", "Exit codes"):
        assert word in done.stdout


def test_gcloud_that_is_not_there_is_named(tmp_path: pathlib.Path) -> None:
    for program in ("bash", "dirname"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    words = [word for pair in GOOD.items() for word in pair]
    done = subprocess.run(
        ["bash", str(ROOT / "launch" / "pod.sh"), *words, "status"],
        env={"PATH": str(tmp_path), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: gcloud is not on the PATH; install the Google Cloud CLI, cloud.google.com/sdk.\n"
    )


def request(**changes: object) -> Request:
    fields = {"backend": "qr", "name": "n", "type": "v5e-16", "zone": "us-east5-b", "project": "p"}
    return Request(**{**fields, **changes})  # type: ignore[arg-type]


def test_the_price_is_that_of_all_chips_of_all_slices(tmp_path: pathlib.Path) -> None:
    (tmp_path / "prices.csv").write_text("# ours\nchip,capacity,usd_per_chip_hour\nv5e,spot,0.5\n")
    assert price_an_hour(request(slices=2, capacity="spot"), tmp_path / "prices.csv") == 16.0
    assert price_an_hour(request(), tmp_path / "prices.csv") is None


def test_the_shipped_table_is_read() -> None:
    assert "16 chips of v5e, on demand: about" in describe_price(request())


def test_a_table_that_is_none_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "prices.csv").write_text("chip,capacity,usd_per_chip_hour\nv5e,on_demand,cheap\n")
    with pytest.raises(UserError, match="is no table of chip,capacity,usd_per_chip_hour"):
        price_an_hour(request(), tmp_path / "prices.csv")
