"""From a config file and the command line to one frozen dataclass, and from there to JSON and back.

A config file is Python with a `get_config()` that returns the dataclass of the entry point. Any field of its tree
is replaced by its path: `--optimizer.schedule.peak 2e-3`.
"""

import argparse
import contextlib
import dataclasses
import difflib
import importlib
import io
import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import tyro

from t5like.errors import UserError

Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True)
class CommandLine:
    """What stands on the command line beside the config's own fields."""

    workdir: Path | None
    prints_config: bool


def parse_command_line(
    argv: list[str], *, command: str, config_class: type[Config], default: Config | None = None
) -> tuple[Config, CommandLine]:
    """Returns the config of an entry point, and the options that are not part of it.

    Args:
      argv: `[config file] [--workdir D] [--print_config] [--path.to.field value ...]`.
      command: how the user calls this entry point, for messages.
      default: the config to start from where no file is given; None makes the file necessary.

    Raises:
      UserError: for a missing or broken file, an unknown field (naming the nearest) or a value of a wrong type.
    """
    file, argv = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else (None, argv)
    wants_help = "-h" in argv or "--help" in argv
    if file is None and default is None and not wants_help:
        raise UserError(
            f"{command} needs a config file first, such as: {command} configs/tiny.py --workdir runs/tiny"
        )
    config = default if file is None else load_config_file(Path(file), config_class)
    if config is None:
        print(f"usage: {command} CONFIG.py --workdir DIR [--print_config] [--path.to.field VALUE ...]\n")
        print(f"Name a config file to see its fields: {command} configs/tiny.py --help")
        raise SystemExit(0)

    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--workdir")
    own.add_argument("--print_config", action="store_true")
    if wants_help:
        print(f"usage: {command} [CONFIG.py] --workdir DIR [--print_config] [--path.to.field VALUE ...]\n")
        print("  --workdir DIR    where the run is written and, if it exists, resumed from")
        print("  --print_config   print the resolved config as JSON and stop\n")
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            options, rest = own.parse_known_args(argv)
    except SystemExit:
        raise UserError(f"{command}: --workdir needs the path of a folder.") from None
    config = override(config, rest, command=command)
    return config, CommandLine(Path(options.workdir) if options.workdir else None, options.print_config)


def load_config_file(path: Path, config_class: type[Config]) -> Config:
    """Returns what `get_config()` of a Python file gives.

    Raises:
      UserError: if there is no such file, it does not run, or gives something else than `config_class`.
    """
    if not path.is_file():
        names = sorted(p.name for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
        hint = (
            f"; did you mean {path.parent / near[0]}?"
            if near
            else f"; {path.parent} holds {', '.join(names)}."
        )
        raise UserError(f"There is no config file {path}{hint if names else '.'}")
    try:
        config = runpy.run_path(str(path))["get_config"]()
    except UserError:
        raise
    except KeyError:
        raise UserError(
            f"The config file {path} defines no get_config(); add one that returns the config."
        ) from None
    except Exception as error:
        raise UserError(f"The config file {path} does not run: {type(error).__name__}: {error}") from error
    if not isinstance(config, config_class):
        raise UserError(
            f"The config file {path} gives a {type(config).__name__}, but this command needs a {config_class.__name__}."
        )
    return config


def field_paths(config: Any, prefix: str = "") -> Iterator[str]:
    """Yields the dotted path of every field of a config tree that holds a value, not a further config."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from field_paths(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def override(config: Config, arguments: list[str], *, command: str) -> Config:
    """Returns the config with the fields named on the command line replaced.

    Raises:
      UserError: for an unknown field, a missing value, or a value of a wrong type.
    """
    known = set(field_paths(config))
    for argument in arguments:
        name = argument.removeprefix("--").split("=")[0].replace("-", "_")
        if argument.startswith("--") and name not in known | {"help"}:
            near = difflib.get_close_matches(name, known | {"workdir", "print_config"}, n=1, cutoff=0.4)
            hint = f"did you mean --{near[0]}?" if near else f"see {command} --help."
            raise UserError(f"There is no field --{name} in this config; {hint}")
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.cli(
                type(config),
                args=arguments,
                default=config,
                prog=command,
                config=(tyro.conf.FlagConversionOff, tyro.conf.AvoidSubcommands),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
    # tyro draws a box: title, message, rule, hints. The message alone is the sentence.
    lines = [line.strip("│╭╮╰╯ ") for line in messages.getvalue().splitlines()]
    body = " ".join(line for line in lines[1:] if line).split("───")[0].strip()
    raise UserError(
        f"{body[:1].upper()}{body[1:].rstrip('.')}; see {command} --help for every field and its type."
    )


def to_dict(config: Any) -> Any:
    """Returns a config tree as JSON-able dicts; each dataclass carries its class as `__class__`."""
    if dataclasses.is_dataclass(config):
        fields = {field.name: to_dict(getattr(config, field.name)) for field in dataclasses.fields(config)}
        return {"__class__": f"{type(config).__module__}.{type(config).__name__}", **fields}
    if isinstance(config, tuple):
        return [to_dict(item) for item in config]
    return config


def from_dict(saved: Any) -> Any:
    """Returns the config tree that `to_dict` saved; lists become tuples again.

    Raises:
      UserError: if it names a class that is no dataclass of this package, or fields the class does not have.
    """
    if isinstance(saved, list):
        return tuple(from_dict(item) for item in saved)
    if not isinstance(saved, dict):
        return saved
    module, _, name = str(saved.get("__class__", "")).rpartition(".")
    # Only our own dataclasses: a saved config is data and must not run anything.
    found = getattr(importlib.import_module(module), name, None) if module.split(".")[0] == "t5like" else None
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise UserError(
            f"A saved config names the class {saved.get('__class__')!r}, which t5like does not have."
        )
    fields = {key: from_dict(value) for key, value in saved.items() if key != "__class__"}
    try:
        return found(**fields)
    except TypeError as error:
        raise UserError(f"A saved config does not fit this version of t5like: {error}.") from error


def to_json(config: Any) -> str:
    """Returns a config tree as indented JSON."""
    return json.dumps(to_dict(config), indent=2)


def differences(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yields (path, old value, new value) of every field in which two saved config trees differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from differences(old.get(key), new.get(key), f"{prefix}{key}." if prefix or key else key)
    elif old != new:
        yield prefix.rstrip("."), old, new
