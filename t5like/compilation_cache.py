"""Where compiled programs are kept, so that a second run, seed or task need not compile what an earlier one did."""

import hashlib
import os
import platform
import sys
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
# JAX's own settings, all of them environment variables by these names too. The least recently used programs go first;
# those that are compiled in less time than this are not worth their file.
_SETTINGS: dict[str, int | float] = {
    "jax_compilation_cache_max_size": 4 << 30,
    "jax_persistent_cache_min_compile_time_secs": 0.5,
}
_FOLDER_SETTING = "jax_compilation_cache_dir"


def keep_compiled_programs() -> None:
    """Makes JAX keep what it compiles under the user's cache folder.

    What the environment says about it goes first: JAX_COMPILATION_CACHE_DIR names another place, such as a bucket that
    the hosts of a slice share, and JAX_ENABLE_COMPILATION_CACHE=0 keeps nothing.
    """
    if _FOLDER_SETTING.upper() in os.environ:
        return
    settings = {_FOLDER_SETTING: str(cache_folder()), **_SETTINGS}
    for name, value in settings.items():
        os.environ.setdefault(name.upper(), str(value))
    if "jax" in sys.modules:  # which reads the environment once, when it is imported
        for name, value in settings.items():
            sys.modules["jax"].config.update(name, type(value)(os.environ[name.upper()]))


def cache_folder() -> Path:
    """Returns the folder of programs for this kind of machine.

    A program for the CPU may use instructions that another CPU lacks, and a home folder may be shared.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "t5like" / "compiled" / hashlib.sha256(_instructions().encode()).hexdigest()[:12]


def _instructions() -> str:
    """Returns what tells apart CPUs that cannot run one another's programs."""
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return f"{platform.machine()} {line}"
    return f"{platform.machine()} {platform.processor()} {platform.node()}"
