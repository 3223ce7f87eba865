"""Options of decoding: what they refuse, and that they are fields of a config like any other."""

import dataclasses
import json
from typing import Any

import pytest

from t5like.config import check_types, from_dict, override, to_dict
from t5like.decoding.options import BeamSearch, Decoding, Greedy, Sampling
from t5like.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    decoding: Decoding = Greedy()


@pytest.mark.parametrize(
    ("kind", "fields", "sentence"),
    [
        (Sampling, {"temperature": 0.0}, "Sampling.temperature is 0.0; give 1e-6 to 1e6, or use Greedy"),
        (Sampling, {"temperature": -1.0}, "Sampling.temperature is -1.0"),
        (Sampling, {"temperature": float("nan")}, "Sampling.temperature is nan"),
        (Sampling, {"temperature": float("inf")}, "Sampling.temperature is inf"),
        (Sampling, {"top_k": 0}, "Sampling.top_k is 0"),
        (Sampling, {"top_p": 0.0}, "Sampling.top_p is 0.0; give a probability"),
        (Sampling, {"top_p": 1.5}, "Sampling.top_p is 1.5"),
        (Sampling, {"top_p": float("nan")}, "Sampling.top_p is nan"),
        (Sampling, {"seed": -1}, "Sampling.seed is -1"),
        (Sampling, {"seed": 2**32}, "Sampling.seed is 4294967296; give one below"),
        (BeamSearch, {"num_beams": 0}, "BeamSearch.num_beams is 0"),
        (BeamSearch, {"num_best": 0}, "BeamSearch.num_best is 0"),
        (BeamSearch, {"num_beams": 2, "num_best": 3}, "num_best is 3, but 2 beams"),
        (BeamSearch, {"length_penalty": float("inf")}, "BeamSearch.length_penalty is inf"),
        (BeamSearch, {"early_stopping": "always"}, "BeamSearch.early_stopping is 'always'; give False, True"),
        (BeamSearch, {"early_stopping": 1}, "BeamSearch.early_stopping is 1"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(
    kind: type, fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as raised:
        kind(**fields)
    assert sentence in str(raised.value)
    assert str(raised.value).endswith(".")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("default", "path", "words", "value"),
    [
        (Sampling(), "temperature", "0.5", 0.5),
        (Sampling(), "top_k", "40", 40),
        (Sampling(top_k=40), "top_k", "None", None),
        (Sampling(), "top_p", "0.9", 0.9),
        (Sampling(), "seed", "7", 7),
        (BeamSearch(), "num_beams", "8", 8),
        (BeamSearch(), "length_penalty", "-0.5", -0.5),
        (BeamSearch(), "early_stopping", "True", True),
        (BeamSearch(early_stopping=True), "early_stopping", "False", False),
        (BeamSearch(), "early_stopping", "never", "never"),
    ],
)
def test_each_is_a_field_of_a_config_and_its_own_fields_are_set_by_path(
    default: Decoding, path: str, words: str, value: Any
) -> None:
    changed = override(Config(decoding=default), [f"--decoding.{path}", words], command="t5like generate")
    assert changed == Config(decoding=dataclasses.replace(default, **{path: value}))
    assert type(getattr(changed.decoding, path)) is type(value)


@pytest.mark.parametrize("decoding", [Greedy(), Sampling(top_k=3), BeamSearch(early_stopping="never")])
def test_each_can_be_saved_and_read_back(decoding: Decoding) -> None:
    config = Config(decoding=decoding)
    check_types(config)
    assert from_dict(json.loads(json.dumps(to_dict(decoding)))) == decoding
    assert override(config, [], command="t5like generate") == config


def test_a_field_out_of_bounds_is_refused_on_the_command_line_too() -> None:
    with pytest.raises(UserError, match=r"Sampling\.top_p is 2\.0"):
        override(Config(decoding=Sampling()), ["--decoding.top_p", "2"], command="t5like generate")
