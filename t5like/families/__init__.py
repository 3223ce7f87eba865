"""All families whose public checkpoints become our models, and the other way round."""

from collections.abc import Mapping
from typing import Any

from t5like.batch import SpecialTokens
from t5like.errors import UserError
from t5like.families.bart import BART
from t5like.families.base import Family, is_same_model
from t5like.families.bert import BERT
from t5like.families.distilbert import DISTILBERT
from t5like.families.gpt2 import GPT2
from t5like.families.roberta import ROBERTA
from t5like.families.t5 import T5
from t5like.models.config import TransformerConfig

FAMILIES: tuple[Family, ...] = (T5, BERT, ROBERTA, DISTILBERT, GPT2, BART)


def find_family(public: Mapping[str, Any], origin: str) -> Family:
    """Returns the family that a public config names by its `model_type`.

    Raises:
      UserError: it names none, or one that t5like does not have.
    """
    by_type = {model_type: family for family in FAMILIES for model_type in family.model_types}
    given = public.get("model_type")
    known = f"t5like knows {', '.join(by_type)}"
    if not isinstance(given, str):
        raise UserError(f"{origin} names no model_type; {known}.")
    if given in by_type:
        return by_type[given]
    raise UserError(f"{origin} is of the model_type {given!r}; {known}.")


def family_of(config: TransformerConfig) -> Family | None:
    """Returns the family that can say what this model is, None where none can: it goes through a config unchanged."""
    for family in FAMILIES:
        try:
            public = family.write_config(config, SpecialTokens(eos_id=1, sentinel_ids=()))  # type: ignore[arg-type]
            returned = family.read_config({**public, "num_labels": config.num_labels}, config.head, None)
        except (UserError, KeyError, ValueError):
            continue
        if is_same_model(config, returned):
            return family
    return None
