"""The house: what may import what, how long things are, and what may not be there at all.

`FLOORS` is the map. A file imports only from floors below its own and from its own floor; a new file must be given
a place here before any test passes.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "t5like"

# Lowest first. A name that ends in a slash is a folder, any other a file.
FLOORS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "ground",
        (
            "__init__",
            "errors",
            "batch",
            "allocator",
            "compilation_cache",
            "entry",
            "whole_files",
            "manifest",
            "keeping",
            "preemption",
            "phases",
            "watchdog/",
            "hosts/",
        ),
    ),
    ("host, no jax: text to features", ("data/", "objectives/")),
    ("host, no jax: tasks", ("tasks/",)),
    ("host, no jax: a model of counts", ("ngram_model",)),
    (
        "host, no jax: the record of a run",
        (
            "record_lines",
            "metrics_log",
            "ledger",
            "left_out",
            "progress",
            "scores",
            "suite_plan",
            "suite_results",
            "suite_table",
            "report/",
        ),
    ),
    ("host, no jax: configs", ("config",)),
    ("host, no jax: files of named tensors", ("weights/",)),
    ("host, no jax: chips", ("chips",)),
    ("host, no jax: what a compiled program costs", ("planning/", "plan_text")),
    ("devices", ("mesh", "sharding", "fingerprints", "distributed", "losses", "chunked_loss", "kernels/")),
    ("models and optimizers", ("models/", "optim/")),
    ("presets", ("families/",)),
    ("mechanisms", ("train_step", "checkpoint", "decoding/", "flops", "generation", "interchange")),
    ("the workdir", ("workdir", "shared_workdir", "outcome", "public_model", "trained_model")),
    (
        "the loop",
        (
            *(
                "reporter",
                "guard",
                "loop",
                "trimming",
                "evaluation",
                "task_forms",
                "task_evaluation",
                "samples",
                "placement",
            ),
            "training",
            *("suite_config", "ahead"),
        ),
    ),
    (
        "entry points",
        (
            *("pretrain", "tokenize_text", "finetune", "suite_runs", "benchmark", "evaluate", "generate"),
            *("ngram", "show_batch", "convert", "plan", "doctor"),
        ),
    ),
    ("the command", ("cli", "__main__")),
)
HOST_FLOORS = [floor for floor, _ in FLOORS if floor == "ground" or floor.startswith("host")]
DEVICE_LIBRARIES = {"jax", "jaxlib", "flax", "optax", "orbax"}

# Entry points stand side by side; these alone lean on another one.
ENTRY_IMPORTS = {
    "benchmark": {"suite_runs"},
    "evaluate": {"pretrain", "finetune"},
    "plan": {"pretrain"},
    "show_batch": {"pretrain"},
    "suite_runs": {"finetune"},
    "tokenize_text": {"pretrain"},
}

JUNK_DRAWERS = {"utils", "util", "helpers", "common", "misc"}
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_CONFIG_LINES = 450, 60, 80

FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def floor_of(file: Path) -> int | None:
    """Returns the number of the floor a file of the package stands on, None where the map has no place for it."""
    for number, (_, places) in enumerate(FLOORS):
        if any(str(file).startswith(p) if p.endswith("/") else str(file) == f"{p}.py" for p in places):
            return number
    return None


def imports_of(path: Path) -> Iterator[str]:
    """Yields the dotted name of everything a file imports, wherever in it, names in `from x import y` as x.y."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports name the whole path"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_file(dotted: str) -> Path | None:
    """Returns the file of the package that an imported name comes from, None where it is from elsewhere.

    t5like.data.vocabulary.Vocabulary -> data/vocabulary.py; t5like.tasks.find_task -> tasks/__init__.py.
    """
    first, *names = dotted.split(".")
    if first != "t5like":
        return None
    while names:
        for file in (Path(*names).with_suffix(".py"), Path(*names, "__init__.py")):
            if (PACKAGE / file).is_file():
                return file
        names.pop()
    return Path("__init__.py")


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_imports_only_from_its_own_floor_and_below(file: Path) -> None:
    floor = floor_of(file)
    assert floor is not None, f"t5like/{file} stands on no floor: give it a place in FLOORS"
    for dotted in imports_of(PACKAGE / file):
        imported = own_file(dotted)
        if imported is None or imported == file:
            continue
        other = floor_of(imported)
        assert other is not None
        assert other <= floor, f"t5like/{file} ({FLOORS[floor][0]}) imports {dotted} ({FLOORS[other][0]})"


@pytest.mark.parametrize("file", [f for f in FILES if FLOORS[floor_of(f) or 0][0] in HOST_FLOORS], ids=str)
def test_the_host_floors_import_no_device_library(file: Path) -> None:
    assert not {dotted.split(".")[0] for dotted in imports_of(PACKAGE / file)} & DEVICE_LIBRARIES


def test_entry_points_lean_on_each_other_only_where_the_map_says() -> None:
    entries = next(places for floor, places in FLOORS if floor == "entry points")
    for entry in entries:
        others = {f.stem for f in map(own_file, imports_of(PACKAGE / f"{entry}.py")) if f is not None}
        assert (others & set(entries)) - {entry} == ENTRY_IMPORTS.get(entry, set())


def test_the_package_imports_no_config_file_and_no_test() -> None:
    for file in FILES:
        assert not {dotted.split(".")[0] for dotted in imports_of(PACKAGE / file)} & {
            "configs",
            "launch",
            "tests",
        }


def test_the_map_names_no_file_that_is_gone() -> None:
    for _, places in FLOORS:
        for place in places:
            assert (
                (PACKAGE / place).is_dir() if place.endswith("/") else (PACKAGE / f"{place}.py").is_file()
            ), place


def test_there_is_no_junk_drawer() -> None:
    assert not [file for file in FILES if JUNK_DRAWERS & {part.removesuffix(".py") for part in file.parts}]


@pytest.mark.parametrize("file", [PACKAGE / f for f in FILES] + [*(ROOT / "launch").rglob("*.py")], ids=str)
def test_files_and_functions_are_short(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES, "look for the second idea in it"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            num_lines = (node.end_lineno or 0) - node.lineno + 1
            assert num_lines <= MAX_FUNCTION_LINES, f"{node.name} has {num_lines} lines and fits no screen"


def test_configs_are_short() -> None:
    for path in (ROOT / "configs").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_CONFIG_LINES, path.name


LAUNCHER = sorted(path.relative_to(ROOT) for path in (ROOT / "launch").rglob("*.py"))
# Of ours the launcher uses what runs wherever Python does.
LAUNCHER_IMPORTS = {Path("errors.py"), Path("planning/topologies.py")}


@pytest.mark.parametrize("file", LAUNCHER, ids=str)
def test_the_launcher_needs_no_package(file: Path) -> None:
    for dotted in imports_of(ROOT / file):
        first = dotted.split(".")[0]
        assert first in {"launch", "t5like"} or first in sys.stdlib_module_names, dotted
        assert first != "t5like" or own_file(dotted) in LAUNCHER_IMPORTS, dotted


def test_the_launcher_runs_where_no_package_is_installed() -> None:
    code = "import runpy; runpy.run_module('launch.pod', alter_sys=True)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# What reads objects by running what a file says. `in_processes` sends tasks to processes of its own, which is no file.
RUNS_WHAT_IT_READS = {
    *(
        "pickle",
        "_pickle",
        "pickletools",
        "marshal",
        "shelve",
        "dill",
        "cloudpickle",
        "joblib",
        "torch",
        "pandas",
    ),
}
READS_TORCH_FILES = Path("weights/torch_files.py")


@pytest.mark.parametrize("file", FILES, ids=str)
def test_nothing_that_was_pickled_is_loaded(file: Path) -> None:
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    imported = {dotted.split(".")[0] for dotted in imports_of(PACKAGE / file)} & RUNS_WHAT_IT_READS
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    if file == READS_TORCH_FILES:
        # A reader that looks up nothing but its own stand-ins, see tests/weights/test_torch_files.py.
        assert imported == {"pickle", "pickletools"}
        of_pickle = {n.attr for n in attributes if isinstance(n.value, ast.Name) and n.value.id == "pickle"}
        assert of_pickle == {"Unpickler"}
        readers = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and "pickle.Unpickler" in map(ast.unparse, node.bases)
        ]
        for reader in readers:
            assert {"find_class", "persistent_load"} <= {getattr(part, "name", "") for part in reader.body}
        assert len(readers) == 1
        return
    assert not imported
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        called = ast.unparse(call.func)
        assert called not in ("np.load", "numpy.load", "eval", "exec", "__import__"), called
        assert "allow_pickle" not in {keyword.arg for keyword in call.keywords}, called


def run_python(code: str) -> str:
    """Returns what a fresh interpreter prints; it must end well."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_host_floors_work_where_jax_is_not_installed() -> None:
    # Data workers import them. Grain brings jax in where it finds it, so the law is that none of it is needed.
    host = [
        ".".join(("t5like", *f.with_suffix("").parts))
        for f in FILES
        if FLOORS[floor_of(f) or 0][0] in HOST_FLOORS
    ]
    missing = "".join(f"sys.modules[{library!r}] = None; " for library in sorted(DEVICE_LIBRARIES))
    modules = [name.removesuffix(".__init__") for name in host]
    printed = run_python(
        f"import sys, importlib; {missing}[importlib.import_module(m) for m in {modules}]; print('ok')"
    )
    assert printed == "ok\n"


def test_help_comes_at_once_and_loads_no_device_library() -> None:
    code = (
        "import sys, time; from t5like.cli import dispatch; dispatch(['--help']); "
        "print(time.process_time()); print(*sys.modules)"
    )
    *usage, cpu_seconds, modules = run_python(code).splitlines()
    assert usage[0].startswith("usage: t5like COMMAND")
    heavy = {*DEVICE_LIBRARIES, "numpy", "grain", "tyro"}
    assert not {name.split(".")[0] for name in modules.split()} & heavy
    assert float(cpu_seconds) < 1.0
