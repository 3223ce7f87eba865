"""From a config file and the command line to one frozen dataclass, and from there to JSON and back.

A config file is Python with a `get_config()` that returns the dataclass of the entry point. Any field of its tree
is replaced by its path: `--optimizer.schedule.peak 2e-3`.
"""

import argparse
import contextlib
import dataclasses
import difflib
import importlib
import inspect
import io
import json
import runpy
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from t5like.errors import UserError

Config = TypeVar("Config")

# Classes that have another place than when earlier versions saved them.
_MOVED = {"t5like.sharding.MeshShape": "t5like.mesh.MeshShape"}


@dataclasses.dataclass(frozen=True)
class CommandLine:
    """What stands on the command line beside the config's own fields."""

    workdir: Path | None
    prints_config: bool


def parse_command_line(
    argv: list[str],
    *,
    command: str,
    config_class: type[Config],
    default: Config | None = None,
    has_workdir: bool = True,
    example: str = "--workdir runs/tiny",
    own_usage: str = "",
    own_help: str = "",
) -> tuple[Config, CommandLine]:
    """Returns the config of an entry point, and the options that are not part of it.

    Args:
      argv: `[config file] [--workdir D] [--print_config] [--path.to.field value ...]`.
      command: how the user calls this entry point, for messages.
      default: the config to start from where no file is given; None makes the file necessary.
      has_workdir: whether there is an option --workdir.
      example: what else a command line needs that names a config file, for messages.
      own_usage: options that the caller has taken out of argv already, as the help's first line shows them.
      own_help: lines of the help that say what these are.

    Raises:
      UserError: for a missing or broken file, an unknown field (naming the nearest) or a value of a wrong type.
    """
    file, argv = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else (None, argv)
    wants_help = "-h" in argv or "--help" in argv
    if file is None and default is None and not wants_help:
        raise UserError(f"{command} needs a config file first, such as: {command} configs/tiny.py {example}")
    config = default if file is None else load_config_file(Path(file), config_class)
    usage = " ".join(filter(None, (own_usage, "--workdir DIR" if has_workdir else "", "[--print_config]")))
    if config is None:
        print(f"usage: {command} CONFIG.py {usage} [--path.to.field VALUE ...]\n")
        if own_help:
            print(own_help)
        print(f"Name a config file to see its fields: {command} configs/tiny.py --help")
        raise SystemExit(0)

    if wants_help:
        workdir = "  --workdir DIR    where the run is written and, if it exists, resumed from\n"
        own_help += workdir if has_workdir else ""
        own_help += "  --print_config   print the resolved config as JSON and stop"
        about = f"{inspect.getdoc(type(config))}\n\n{own_help}"
        _parse(config, ["--help"], f"{command} [CONFIG.py] {usage}", about=about)
    options, rest = _take_options(argv, command, has_workdir=has_workdir)
    return override(config, rest, command=command), options


def _take_options(argv: list[str], command: str, *, has_workdir: bool) -> tuple[CommandLine, list[str]]:
    """Returns the options that are not part of a config, and what else there is in argv."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    own.add_argument("--workdir")
    own.add_argument("--print_config", "--print-config", action="store_true")
    try:
        options, rest = own.parse_known_args(argv)
    except argparse.ArgumentError as error:
        is_workdir = error.argument_name == "--workdir"
        mistake = "--workdir needs the path of a folder" if is_workdir else "--print_config takes no value"
        raise UserError(f"{command}: {mistake}.") from None
    if options.workdir and not has_workdir:
        raise UserError(f"{command} has no run to keep; leave out --workdir {options.workdir}.")
    if options.workdir and "://" in options.workdir:
        raise UserError(
            f"--workdir {options.workdir} is a URL, but a run is written to a folder; mount the bucket (with Cloud Storage "
            "FUSE, as launch/pod.sh does) and name a folder in it."
        )
    return CommandLine(Path(options.workdir) if options.workdir else None, options.print_config), rest


def load_config_file(path: Path, config_class: type[Config]) -> Config:
    """Returns what `get_config()` of a Python file gives.

    Raises:
      UserError: if there is no such file, it does not run, or gives something else than `config_class`.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; a config file is Python, such as configs/tiny.py.")
    if not path.is_file():
        names = sorted(p.name for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
        hint = (
            f"did you mean {path.parent / near[0]}?" if near else f"{path.parent} holds {', '.join(names)}."
        )
        raise UserError(
            f"There is no config file {path}; {hint if names else 'give the path of a Python file.'}"
        )
    try:
        module = runpy.run_path(str(path))
        config = module["get_config"]() if "get_config" in module else None
    except UserError as error:
        raise UserError(f"The config file {path} does not work: {error}") from error
    except (Exception, SystemExit) as error:
        raise UserError(f"The config file {path} does not run: {type(error).__name__}: {error}") from error
    if inspect.iscoroutine(config):
        config.close()  # or Python would say besides that nobody awaited it
    if "get_config" not in module:
        raise UserError(f"The config file {path} defines no get_config(); add one that returns the config.")
    if not isinstance(config, config_class):
        raise UserError(
            f"The config file {path} gives a {type(config).__name__}, but this command needs {config_class.__name__}."
        )
    try:
        check_types(config)
        check_can_be_saved(config)
    except UserError as error:
        raise UserError(f"The config file {path} does not work: {error}") from error
    return config


def field_paths(config: Any, prefix: str = "") -> Iterator[str]:
    """Yields the dotted path of every field of a config tree that holds a value, not a further config or several.

    Of several, each has its number: objective.denoisers.0.rate. The underscore that keeps a field `from_` apart from the
    word of Python is no part of its name.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from field_paths(value, f"{prefix}{field.name}.")
        elif _holds_configs(value):
            for number, item in enumerate(value):
                yield from field_paths(item, f"{prefix}{field.name}.{number}.")
        else:
            yield f"{prefix}{field.name.removesuffix('_')}"


def override(config: Config, arguments: list[str], *, command: str) -> Config:
    """Returns the config with the fields named on the command line replaced.

    Raises:
      UserError: for an unknown field, a missing value, or a value of a wrong type.
    """
    known = set(field_paths(config))
    given = _by_field(arguments)
    for name in given:
        if name not in known:
            raise UserError(
                f"There is no field --{_cut(name)} in this config; {_nearest(name, known, command)}"
            )
    # A flag alone means yes: --dry_run is --dry_run True.
    flags = {name for name, values in given.items() if not values and _type_of(config, name) is bool}
    given = {name: ["True"] if name in flags else values for name, values in given.items()}
    arguments = [word for name, values in given.items() for word in (f"--{name}", *values)]
    try:
        return _parse(config, arguments, command)
    except SystemExit:
        pass
    # tyro's own message is a box of several paragraphs: find the field at fault and say it in a sentence.
    for name, values in given.items():
        try:
            _parse(config, [f"--{name}", *values], command)
        except SystemExit:
            kind = describe_type(_type_of(config, name))
            refused = f"takes {kind}, not {_cut(' '.join(values))!r}" if values else f"needs a value: {kind}"
            raise UserError(f"--{name} {refused}.") from None
        except UserError:
            continue  # it may need the other fields
    raise UserError(f"The fields after {command} cannot be read; see {command} --help.")


def _cut(text: str) -> str:
    """Returns a text that somebody gave, cut to what fits into a sentence."""
    return text if len(text) <= 200 else f"{text[:200]}..."


def _shown(value: Any) -> str:
    """Returns a value as it is written in Python, of what is not written there its class."""
    if isinstance(value, bool | int | float | str | bytes | tuple | list | dict | None):
        return _cut(repr(value))
    return f"an object of class {type(value).__name__}"


def _by_field(arguments: list[str]) -> dict[str, list[str]]:
    """Returns what is given for each field: ["--a.b=1", "--c-d", "2", "3"] -> {"a.b": ["1"], "c_d": ["2", "3"]}.

    Raises:
      UserError: if a word comes before any field.
    """
    given: dict[str, list[str]] = {}
    values: list[str] | None = None
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            values = given[name.replace("-", "_")] = [value] if equals else []
        elif argument == "-h":
            values = given["help"] = []
        elif values is None:
            raise UserError(f"{_cut(argument)!r} is out of place; give a field as --path.to.field VALUE.")
        else:
            values.append(argument)
    return given


def _nearest(name: str, known: set[str], command: str) -> str:
    """Returns what to say of the known field that is most like an unknown one."""
    last = name.rpartition(".")[2]
    same = sorted(path for path in known if path.rpartition(".")[2] == last)
    close = same or difflib.get_close_matches(name, known | {"workdir", "print_config"}, n=1, cutoff=0.6)
    return f"did you mean --{close[0]}?" if close else f"see {command} --help for all of them."


def _parse(config: Config, arguments: list[str], command: str, *, about: str | None = None) -> Config:
    with contextlib.redirect_stderr(io.StringIO()):
        return tyro.cli(
            type(config),
            args=arguments,
            default=config,
            prog=command,
            description=about,
            use_underscores=True,
            config=(tyro.conf.FlagConversionOff, tyro.conf.AvoidSubcommands),
        )


def _type_of(config: Any, path: str) -> Any:
    """Returns the type that the field at a dotted path is declared with."""
    *parents, name = path.split(".")
    for parent in parents:
        config = config[int(parent)] if parent.isdigit() else getattr(config, parent)
    hints = typing.get_type_hints(type(config))
    return hints[name] if name in hints else hints[f"{name}_"]


def describe_type(kind: Any) -> str:
    """Returns what a value of a type looks like on the command line, in words.

    int -> "a whole number"; float | None -> "a number or None"; tuple[Literal["relu", "gelu"], ...] -> "any number
    of: relu or gelu".
    """
    words = {
        int: "a whole number",
        float: "a number",
        bool: "True or False",
        str: "a text",
        type(None): "None",
    }
    parts = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return _alternatives(parts)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        if all(map(dataclasses.is_dataclass, parts)):
            return f"an object of class {_alternatives([part.__name__ for part in parts])}"
        return " or ".join(map(describe_type, parts))
    if typing.get_origin(kind) is tuple and parts[1:] == (...,):
        return f"any number of: {describe_type(parts[0])}"
    return words.get(kind, f"an object of class {getattr(kind, '__name__', kind)}")


def _alternatives(words: Sequence[Any]) -> str:
    """Returns ["a", "b", "c"] as "a, b or c"."""
    return ", ".join(map(str, words[:-1])) + f" or {words[-1]}" if words[1:] else str(words[0])


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
      UserError: if it names a class that is no dataclass of this package, or has fields the class does not have or values
        of wrong types.
    """
    try:
        return _from_dict(saved)
    except RecursionError:
        raise UserError("A saved config is nested too deeply; put back what it was.") from None


def _from_dict(saved: Any) -> Any:
    if isinstance(saved, list):
        return tuple(_from_dict(item) for item in saved)
    if not isinstance(saved, dict):
        return saved
    whole_name = str(saved.get("__class__", ""))
    module, _, name = _MOVED.get(whole_name, whole_name).rpartition(".")
    found = None
    # Only our own dataclasses: a saved config is data and must not run anything.
    is_ours = module.startswith("t5like.") and all(map(str.isidentifier, module.split(".")))
    if is_ours and not module.endswith("__main__"):
        with contextlib.suppress(ImportError):
            found = getattr(importlib.import_module(module), name, None)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise UserError(
            f"A saved config names the class {saved.get('__class__')!r}, which t5like does not have."
        )
    fields = {key: _from_dict(value) for key, value in saved.items() if key != "__class__"}
    try:
        # Before the class looks at its values, which it takes to be of their types.
        for key, kind in typing.get_type_hints(found).items():
            if key in fields and not _is_of_type(fields[key], kind):
                raise TypeError(f"{key} takes {describe_type(kind)}, not {_shown(fields[key])}")
        return found(**fields)
    except TypeError as error:
        raise UserError(f"A saved config does not fit this version of t5like: {error}.") from error


def to_json(config: Any) -> str:
    """Returns a config tree as indented JSON."""
    return json.dumps(to_dict(config), indent=2)


def check_can_be_saved(config: Any) -> None:
    """Returns if the config, once saved, would be read back as it is.

    Raises:
      UserError: if it would not, because it holds something else than dataclasses of this package, numbers, texts
        and tuples of these.
    """
    saved = to_dict(config)
    try:
        if from_dict(json.loads(json.dumps(saved))) == config:
            return
        reason = "only dataclasses, numbers, texts and tuples of these can be"
    except (UserError, TypeError, ValueError) as error:
        reason = str(error).rstrip(".")
    raise UserError(f"the config cannot be saved and read back: {reason}.")


def check_types(config: Any, prefix: str = "") -> None:
    """Returns if every field of a config tree holds a value of its declared type; a whole number will do as a float.

    Raises:
      UserError: naming the first field that does not.
    """
    for name, kind in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if not _is_of_type(value, kind):
            raise UserError(f"{prefix}{name} takes {describe_type(kind)}, not {_shown(value)}.")
        if dataclasses.is_dataclass(value):
            check_types(value, f"{prefix}{name}.")
        elif _holds_configs(value):
            for number, item in enumerate(value):
                check_types(item, f"{prefix}{name}.{number}.")


def _holds_configs(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(map(dataclasses.is_dataclass, value))


def _is_of_type(value: Any, kind: Any) -> bool:
    parts = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return value in parts
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(_is_of_type(value, part) for part in parts)
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is_of_type(item, parts[0]) for item in value)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def differences(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yields (path, old value, new value) of every field in which two saved config trees differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from differences(old.get(key), new.get(key), f"{prefix}{key}." if prefix or key else key)
    elif old != new:
        yield prefix.rstrip("."), old, new
