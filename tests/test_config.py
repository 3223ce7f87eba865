"""From the command line to a config and from a config to JSON and back."""

import contextlib
import dataclasses
import io
import json
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.config import (
    check_types,
    describe_type,
    differences,
    field_paths,
    from_dict,
    load_config_file,
    override,
    parse_command_line,
    to_dict,
    to_json,
)
from t5like.errors import UserError
from t5like.finetune import Finetune
from t5like.mesh import MeshShape
from t5like.models.config import TransformerConfig
from t5like.objectives.bart_denoising import BartDenoising
from t5like.objectives.causal_lm import CausalLM
from t5like.objectives.masked_lm import MaskedLM
from t5like.objectives.prefix_lm import PrefixLM
from t5like.objectives.span_corruption import SpanCorruption
from t5like.objectives.text_to_text import TextToText
from t5like.objectives.ul2 import DENOISERS, UL2
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Constant, Linear
from t5like.pretrain import Pretrain

CONFIG = Pretrain(
    model=TransformerConfig(
        embed_dim=16, num_heads=2, head_dim=8, mlp_dim=32, num_encoder_layers=1, num_decoder_layers=1
    ),
    objective=SpanCorruption(inputs_length=24),
    optimizer=AdamW(schedule=Linear(peak=1e-3, warmup_steps=2)),
    num_steps=8,
    batch_size=8,
)

CONFIG_FILE = '''"""A run."""
from t5like.models.config import TransformerConfig
from t5like.objectives.span_corruption import SpanCorruption
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Linear
from t5like.pretrain import Pretrain


def get_config():
    return Pretrain(
        model=TransformerConfig(
            embed_dim=16, num_heads=2, head_dim=8, mlp_dim=32, num_encoder_layers=1, num_decoder_layers=1
        ),
        objective=SpanCorruption(inputs_length=24),
        optimizer=AdamW(schedule=Linear(peak=1e-3, warmup_steps=2)),
        num_steps=8,
        batch_size=8,
    )
'''


def given_arguments(*arguments: str) -> Pretrain:
    return override(CONFIG, list(arguments), command="t5like pretrain")


def refused(*arguments: str) -> str:
    """Returns the sentence that refuses these arguments."""
    with pytest.raises(UserError) as raised:
        given_arguments(*arguments)
    return str(raised.value)


def value_at(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize(
    ("path", "words", "value"),
    [
        ("num_steps", "12", 12),
        ("z_loss", "1e-3", 1e-3),
        ("z_loss", "0", 0.0),
        ("optimizer.schedule.peak", "2e-3", 2e-3),
        ("optimizer.schedule.decay_steps", "7", 7),
        ("optimizer.schedule.decay_steps", "None", None),
        ("optimizer.max_grad_norm", "None", None),
        ("optimizer.max_grad_norm", "2", 2.0),
        ("model.head_is_tied", "True", True),
        ("model.scans_layers", "False", False),
        ("model.compute_dtype", "bfloat16", "bfloat16"),
        ("model.mlp_activations", "relu", ("relu",)),
        ("model.mlp_activations", "silu linear", ("silu", "linear")),
        ("model.num_embeddings", "128", 128),
        ("objective.noise_density", "0.5", 0.5),
        ("data", "a folder/*.txt", "a folder/*.txt"),
        ("validation_data", "text.jsonl", "text.jsonl"),
        ("mesh.fsdp", "8", 8),
        ("mesh.data", "-1", -1),
        ("rules.embed", "tensor", "tensor"),
        ("rules.embed", "data fsdp", ("data", "fsdp")),
        ("rules.mlp", "None", None),
    ],
)
def test_one_field_is_replaced_by_its_path(path: str, words: str, value: Any) -> None:
    values = [words] if path == "data" else words.split()
    changed = given_arguments(f"--{path}", *values)
    assert value_at(changed, path) == value
    assert type(value_at(changed, path)) is type(value)
    assert [p for p in field_paths(changed) if value_at(changed, p) != value_at(CONFIG, p)] in ([path], [])


def test_fields_are_replaced_together_and_in_every_spelling() -> None:
    changed = given_arguments(
        "--num-steps=9", "--model.embed_dim", "32", "--optimizer.schedule.warmup-steps=3"
    )
    assert (changed.num_steps, changed.model.embed_dim, changed.optimizer.schedule.warmup_steps) == (9, 32, 3)


def test_configs_in_a_tuple_have_numbers() -> None:
    config = dataclasses.replace(CONFIG, objective=UL2(inputs_length=64))
    assert "objective.denoisers.6.rate" in set(field_paths(config))
    changed = override(
        config, ["--objective.denoisers.6.rate", "0.5", "--objective.denoisers.0.mode", "None"], command="x"
    )
    first, *between, last = changed.objective.denoisers
    assert (first.mode, last.rate) == (None, 0.5)
    assert tuple(between) == config.objective.denoisers[1:-1]
    assert from_dict(json.loads(to_json(changed))) == changed
    with pytest.raises(UserError, match=r"denoisers\.0\.rate takes a number, not 'often'"):
        override(config, ["--objective.denoisers.0.rate", "often"], command="x")
    with pytest.raises(UserError, match=r"no field --objective\.denoisers\.7\.rate"):
        override(config, ["--objective.denoisers.7.rate", "1"], command="x")
    bad = dataclasses.replace(DENOISERS[0])
    object.__setattr__(bad, "rate", "often")
    with pytest.raises(UserError, match=r"objective\.denoisers\.1\.rate takes a number, not 'often'"):
        check_types(
            dataclasses.replace(config, objective=UL2(inputs_length=64, denoisers=(DENOISERS[0], bad)))
        )


@pytest.mark.parametrize(
    "objective", [UL2(), PrefixLM(), BartDenoising(), CausalLM(), MaskedLM(), SpanCorruption()]
)
def test_any_objective_is_a_field_and_its_fields_are_replaced(objective: Any) -> None:
    config = dataclasses.replace(CONFIG, objective=objective)
    check_types(config)
    assert from_dict(json.loads(to_json(config))) == config
    changed = override(config, ["--objective.joins_documents", "False"], command="x")
    assert changed.objective == dataclasses.replace(objective, joins_documents=False)


@pytest.mark.parametrize(
    "make",
    [
        lambda length: SpanCorruption(inputs_length=length),
        lambda length: UL2(inputs_length=length),
        lambda length: PrefixLM(length=length),
        lambda length: CausalLM(length=length),
        lambda length: MaskedLM(length=length),
        lambda length: BartDenoising(length=length),
        lambda length: TextToText(inputs_length=8, targets_length=length),
    ],
)
def test_rows_of_more_tokens_than_fit_anywhere_are_refused(make: Callable[[int], Any]) -> None:
    for length in (2**20 + 1, 10**20, 10**400):
        with pytest.raises(UserError, match="but can be at most 1,048,576 tokens"):
            make(length)


def test_nothing_given_changes_nothing() -> None:
    assert given_arguments() == CONFIG


@pytest.mark.parametrize(
    ("field", "nearest"),
    [
        ("num_step", "--num_steps?"),
        ("optimiser.schedule.peak", "--optimizer.schedule.peak?"),
        ("optimizer.peak", "--optimizer.schedule.peak?"),
        ("embed_dim", "--model.embed_dim?"),
        ("work_dir", "--workdir?"),
        ("zzz", "t5like pretrain --help"),
    ],
)
def test_an_unknown_field_names_the_nearest(field: str, nearest: str) -> None:
    message = refused(f"--{field}", "1")
    assert message.startswith(f"There is no field --{field}")
    assert nearest in message


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--num_steps ten", "--num_steps takes a whole number, not 'ten'."),
        ("--num_steps 1e3", "--num_steps takes a whole number, not '1e3'."),
        ("--num_steps=1.5", "--num_steps takes a whole number, not '1.5'."),
        ("--num_steps 4 5", "--num_steps takes a whole number, not '4 5'."),
        ("--num_steps", "--num_steps needs a value: a whole number."),
        ("--z_loss much", "--z_loss takes a number, not 'much'."),
        ("--model.head_is_tied maybe", "--model.head_is_tied takes True or False, not 'maybe'."),
        ("--model.mlp_dim", "--model.mlp_dim needs a value: a whole number."),
        ("--model.head_is_tied yes", "--model.head_is_tied takes True or False, not 'yes'."),
        ("--model.compute_dtype bf16", "--model.compute_dtype takes float32 or bfloat16, not 'bf16'."),
        (
            "--model.mlp_activations swish linear",
            "--model.mlp_activations takes any number of: relu, gelu, gelu_exact, silu or linear, not 'swish linear'.",
        ),
        ("--model.num_embeddings few", "--model.num_embeddings takes a whole number or None, not 'few'."),
        ("--seed 1 --num_steps two", "--num_steps takes a whole number, not 'two'."),
        ("word", "'word' is out of place; give a field as --path.to.field VALUE."),
        ("-x", "'-x' is out of place; give a field as --path.to.field VALUE."),
        ("--optimizer.schedule.peak -1", "Linear.peak is -1.0; give a finite number above 0."),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(arguments: str, sentence: str) -> None:
    assert refused(*arguments.split()) == sentence


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int, "a whole number"),
        (float | None, "a number or None"),
        (typing.Optional[str], "a text or None"),  # noqa: UP045
        (tuple[int, ...], "any number of: a whole number"),
        (Literal["one"], "one"),
        (Literal["one", "two", "three"], "one, two or three"),
    ],
)
def test_types_in_words(kind: Any, words: str) -> None:
    assert describe_type(kind) == words


def parse(*argv: str) -> tuple[Pretrain, Any]:
    return parse_command_line(list(argv), command="t5like pretrain", config_class=Pretrain)


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    (tmp_path / "run.py").write_text(CONFIG_FILE)
    return tmp_path / "run.py"


def test_a_command_line_is_a_file_and_fields_and_options(config_file: Path) -> None:
    config, options = parse(str(config_file), "--workdir", "w", "--num_steps", "9", "--print_config")
    assert config == dataclasses.replace(CONFIG, num_steps=9)
    assert (options.workdir, options.prints_config) == (Path("w"), True)
    _, options = parse(str(config_file))
    assert (options.workdir, options.prints_config) == (None, False)


def changed(old: str, new: str) -> str:
    assert old in CONFIG_FILE
    return CONFIG_FILE.replace(old, new)


BROKEN_FILES: dict[str, tuple[str | None, str]] = {
    "missing": (None, "There is no config file "),
    "no Python": ("def get_config(:", "does not run: SyntaxError"),
    "fails": ("1 / 0", "does not run: ZeroDivisionError: division by zero"),
    "exits": ("raise SystemExit(3)", "does not run: SystemExit: 3"),
    "imports what is not there": ("import nosuchmodule", "does not run: ModuleNotFoundError"),
    "no get_config": ("x = 1", "defines no get_config(); add one that returns the config."),
    "get_config fails": ("def get_config(): return {}['missing']", "does not run: KeyError: 'missing'"),
    "get_config takes arguments": ("def get_config(x): return x", "does not run: TypeError"),
    "another thing": ("def get_config(): return 3", "gives a int, but this command needs Pretrain."),
    "async": ("async def get_config(): return 3", "gives a coroutine, but this command needs Pretrain."),
    "value out of range": (changed("batch_size=8", "batch_size=0"), "Pretrain.batch_size is 0"),
    "unknown field": (changed("batch_size=8", "batch_sise=8"), "unexpected keyword argument 'batch_sise'"),
    "list for tuple": (
        changed("mlp_dim=32", "mlp_dim=32, mlp_activations=['relu']"),
        "model.mlp_activations takes any number of: relu, gelu, gelu_exact, silu or linear, not ['relu'].",
    ),
    "a function for a flag": (
        changed("mlp_dim=32", "mlp_dim=32, scans_layers=lambda: 3"),
        "model.scans_layers takes True or False, not an object of class function.",
    ),
    "float for int": (changed("num_steps=8", "num_steps=8.0"), "num_steps takes a whole number, not 8.0."),
    "bool for int": (changed("num_steps=8", "num_steps=True"), "num_steps takes a whole number, not True."),
    "no such choice": (
        changed("mlp_dim=32", "mlp_dim=32, compute_dtype='bf16'"),
        "model.compute_dtype takes float32 or bfloat16, not 'bf16'.",
    ),
    "text for an object": (
        changed("objective=SpanCorruption(inputs_length=24)", "objective='span corruption'"),
        "objective takes an object of class SpanCorruption, UL2, PrefixLM, BartDenoising, CausalLM or MaskedLM, not 'span "
        "corruption'.",
    ),
    "class of its own": (
        changed("def get_config", "class Mine(SpanCorruption): pass\n\ndef get_config").replace(
            "=SpanCorruption(", "=Mine("
        ),
        "names the class '<run_path>.Mine', which t5like does not have",
    ),
}


@pytest.mark.parametrize("fault", BROKEN_FILES)
def test_a_config_file_that_does_not_work_says_why(fault: str, tmp_path: Path) -> None:
    content, says = BROKEN_FILES[fault]
    path = tmp_path / "broken.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as raised:
        parse(str(path))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_config_file_that_is_not_there_names_the_nearest(config_file: Path) -> None:
    with pytest.raises(UserError, match=r"There is no config file .*ran\.py; did you mean .*run\.py\?"):
        load_config_file(config_file.with_name("ran.py"), Pretrain)
    with pytest.raises(UserError, match=r"is a folder; a config file is Python"):
        load_config_file(config_file.parent, Pretrain)


def test_a_command_without_its_file_says_so() -> None:
    with pytest.raises(UserError, match="needs a config file first"):
        parse("--workdir", "w")
    for argv, sentence in (
        (["--workdir"], "c: --workdir needs the path of a folder"),
        (["--print_config=yes"], "c: --print_config takes no value"),
    ):
        with pytest.raises(UserError, match=sentence):
            parse_command_line(argv, command="c", config_class=Finetune, default=Finetune())


def test_a_command_without_workdir_speaks_of_none(capsys: pytest.CaptureFixture[str]) -> None:
    def parse_alone(*argv: str) -> None:
        parse_command_line(
            list(argv), command="c", config_class=Pretrain, has_workdir=False, example="--step 3"
        )

    with pytest.raises(UserError, match=r"such as: c configs/tiny\.py --step 3$"):
        parse_alone()
    with pytest.raises(SystemExit):
        parse_alone("--help")
    assert "--workdir" not in capsys.readouterr().out


def test_a_workdir_that_is_a_url_is_refused(config_file: Path) -> None:
    with pytest.raises(UserError, match="gs://bucket/run is a URL, but a run is written to a folder; mount"):
        parse(str(config_file), "--workdir", "gs://bucket/run")


def test_help_has_one_line_of_usage_and_every_field_as_it_is_given(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(str(config_file), "--help")
    assert not stopped.value.code
    printed = capsys.readouterr().out
    usage = [line for line in printed.splitlines() if "usage:" in line]
    assert usage == ["usage: t5like pretrain [CONFIG.py] --workdir DIR [--print_config] [-h] [OPTIONS]"]
    only_in_files = {"mixture"}  # no text of the command line makes one
    config = load_config_file(config_file, Pretrain)
    assert all(f"--{path}" in printed for path in set(field_paths(config)) - only_in_files)


def test_print_config_gives_json_that_is_the_config(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from t5like.pretrain import main

    main([str(config_file), "--print_config", "--optimizer.schedule.peak", "0.5"])
    changed = dataclasses.replace(CONFIG, optimizer=AdamW(schedule=Linear(peak=0.5, warmup_steps=2)))
    assert from_dict(json.loads(capsys.readouterr().out)) == changed


@settings(deadline=None, max_examples=25)
@given(
    num_steps=st.integers(1, 10**9),
    peak=st.floats(1e-9, 1e9),
    activations=st.lists(st.sampled_from(["relu", "gelu", "silu", "linear"]), min_size=1, max_size=3).map(
        tuple
    ),
    data=st.text(),
    fsdp=st.integers(1, 8),
)
def test_a_config_comes_back_from_json(
    num_steps: int, peak: float, activations: Any, data: str, fsdp: int
) -> None:
    config = dataclasses.replace(
        CONFIG,
        num_steps=num_steps,
        optimizer=AdamW(schedule=Constant(peak=peak)),
        model=dataclasses.replace(CONFIG.model, mlp_activations=activations),
        data=data,
        mesh=MeshShape(fsdp=fsdp),
    )
    again = from_dict(json.loads(to_json(config)))
    assert again == config
    assert list(differences(to_dict(config), to_dict(again))) == []


# Of every type that a field may be mistaken for.
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def refused_or(make: Callable[[], Any]) -> Any:
    """Returns what `make` does, None where it refuses in one sentence."""
    try:
        return make()
    except UserError as error:
        sentence = str(error)
    assert "\n" not in sentence
    return None


@settings(deadline=None, max_examples=100)
@given(data=st.data(), value=ANYTHING)
def test_a_saved_config_with_another_value_is_a_config_or_one_sentence(data: Any, value: Any) -> None:
    saved = to_dict(CONFIG)
    holders = [saved, *(inner for inner in saved.values() if isinstance(inner, dict))]
    holder = data.draw(st.sampled_from(holders))
    holder[data.draw(st.sampled_from([*holder, "more"]))] = value
    again = refused_or(lambda: from_dict(json.loads(json.dumps(saved))))
    if again is not None:
        check_types(again)


@settings(deadline=None, max_examples=60)
@given(
    path=st.sampled_from(sorted(field_paths(CONFIG))),
    values=st.lists(st.text(alphabet=st.characters(exclude_characters="\n"), max_size=9), max_size=2),
)
def test_whatever_is_given_for_a_field_is_taken_or_refused_in_one_sentence(
    path: str, values: list[str]
) -> None:
    changed = refused_or(lambda: override(CONFIG, [f"--{path}", *values], command="x"))
    if changed is not None:
        check_types(changed)
        assert all(name == path for name, _, _ in differences(to_dict(CONFIG), to_dict(changed)))


@settings(deadline=None, max_examples=100)
@given(words=st.lists(st.text(alphabet="-=.h x1éa\udcff", max_size=6), max_size=4))
def test_whatever_words_are_given_are_taken_or_refused_in_one_sentence(words: list[str]) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):  # of --help
        assert refused_or(lambda: override(CONFIG, words, command="x")) in (None, CONFIG)


def test_a_saved_config_that_is_nested_deeply_is_refused() -> None:
    saved: list[Any] = []
    for _ in range(10_000):
        saved = [saved]
    with pytest.raises(UserError, match="nested too deeply"):
        from_dict(saved)


def test_what_is_given_at_length_is_cut() -> None:
    for arguments in (["--num_steps", "9" * 5000], [f"--{'a' * 5000}", "1"], ["b" * 5000]):
        with pytest.raises(UserError) as raised:
            override(CONFIG, arguments, command="x")
        assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    "name",
    [
        ["os.system"],
        "t5like..x.y",
        "t5like.a b.c",
        "os.system",
        "subprocess.Popen",
        "t5like.nosuch.Thing",
        "t5like.__main__.main",
        "t5like.cli.main",
        "Pretrain",
        "",
    ],
)
def test_only_our_own_dataclasses_are_read_back(name: Any) -> None:
    with pytest.raises(UserError, match="which t5like does not have"):
        from_dict({"__class__": name})


def test_a_class_that_has_moved_since_is_found() -> None:
    saved = to_dict(MeshShape(fsdp=2)) | {"__class__": "t5like.sharding.MeshShape"}
    assert from_dict(saved) == MeshShape(fsdp=2)


def test_fields_of_another_version_are_refused() -> None:
    with pytest.raises(UserError, match="does not fit this version of t5like"):
        from_dict(to_dict(CONFIG) | {"from_the_future": 1})
    with pytest.raises(UserError, match="does not fit this version of t5like"):
        from_dict({"__class__": "t5like.optim.schedules.Constant", "peak": "high"})


def test_differences_name_the_path_and_both_values() -> None:
    other = dataclasses.replace(CONFIG, seed=3, optimizer=AdamW(schedule=Constant(peak=1e-3)))
    found = {path: (old, new) for path, old, new in differences(to_dict(CONFIG), to_dict(other))}
    assert found["seed"] == (0, 3)
    assert found["optimizer.schedule.__class__"] == (
        "t5like.optim.schedules.Linear",
        "t5like.optim.schedules.Constant",
    )
    assert found["optimizer.schedule.warmup_steps"] == (2, None)
    assert "num_steps" not in found
