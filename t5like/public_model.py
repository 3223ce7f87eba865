"""A model as public files hold it: read as one of ours, or written from one of ours."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np

from t5like.config import check_types
from t5like.data.vocabulary import (
    Vocabulary,
    check_is_public,
    load_public_vocabulary,
    save_public_vocabulary,
)
from t5like.errors import UserError
from t5like.families import family_of, find_family
from t5like.families.base import Family, PublicConfig
from t5like.families.t5x import T5X
from t5like.interchange import HEAD_PATH, Plan, export_arrays, import_params, plan_import
from t5like.models.config import Head, TransformerConfig
from t5like.models.transformer import Transformer
from t5like.weights.public_files import holds_weights, open_weights
from t5like.weights.safetensors_writer import write_safetensors
from t5like.weights.source import TensorSource
from t5like.weights.t5x_checkpoint import open_t5x
from t5like.whole_files import write_json
from t5like.workdir import is_new, new_folder, read_json

PyTree = Any
ExportDtype = Literal["float32", "bfloat16", "float16"]
DTYPES: dict[ExportDtype, np.dtype] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}


@dataclasses.dataclass(frozen=True)
class PublicModel:
    """A public checkpoint, planned and yet to be read; `restore` reads its parameters.

    `origin`, `config`, `vocabulary`, `step` and `restore` are those of `workdir.TrainedModel` too.
    """

    origin: str
    family: Family
    config: TransformerConfig
    vocabulary: Vocabulary
    plan: Plan
    source: TensorSource
    step: int = 0

    @property
    def has_new_head(self) -> bool:
        """Whether the checkpoint lacks the arrays of the head, or some of them."""
        return any(line.fate == "initialised" and line.ours.startswith(HEAD_PATH) for line in self.plan.lines)

    def restore(self, abstract_params: PyTree, *, seed: int = 0) -> PyTree:
        """Returns the parameters, laid out as `abstract_params` says; a new head is drawn from the seed."""
        return import_params(self.plan, self.source, Transformer(self.config), abstract_params, seed=seed)


def load_public_model(
    path: Path, *, head: Head | None = None, num_labels: int = 0, vocabulary: Vocabulary | None = None
) -> PublicModel:
    """Returns the model in a folder of Hugging Face's layout, one of its weight files, or a checkpoint of T5X.

    Args:
      head: what it is to be used for; None takes the head it was saved with. A head that the checkpoint lacks is
        drawn anew.
      num_labels: labels of such a head.
      vocabulary: None takes the one beside the weights.

    Raises:
      UserError: the files are missing, damaged, of a family that t5like does not have or does not fit, or hold what
        no part of the model is named for.
    """
    if not path.exists():
        raise UserError(f"There is no file or folder {path}; give a model in Hugging Face's layout.")
    folder = path if path.is_dir() else path.parent
    if not (folder / "config.json").exists():
        if holds_weights(path):
            raise UserError(
                f"{folder} has no config.json, which says what model its weights are of; put it beside them."
            )
        return _load_t5x(path, head, vocabulary)
    public = read_json(folder / "config.json")
    family = find_family(public, str(folder / "config.json"))
    if head is not None and head not in family.classes:
        raise UserError(f"{family.name} has no head {head}; it has {', '.join(family.classes)}.")
    source = open_weights(path)
    public = public if not num_labels else {**public, "num_labels": num_labels}
    config = _read_config(family, public, head, source, folder / "config.json")
    plan = plan_import(family, config, source)
    if vocabulary is None:
        vocabulary = load_public_vocabulary(folder, public["model_type"])
    check_vocabulary(config, vocabulary, str(folder))
    model = PublicModel(str(path), family, config, vocabulary, plan, source)
    if not model.has_new_head:
        return model
    return dataclasses.replace(model, config=dataclasses.replace(config, label_names=()))


def _read_config(
    family: Family, public: PublicConfig, head: Head | None, source: TensorSource, path: Path
) -> TransformerConfig:
    """Returns our config of a public one, whose values may be of any kind."""
    try:
        config = family.read_config(public, head or family.head_of(public), source)
        check_types(config)
    except (AttributeError, TypeError) as error:
        raise UserError(f"{path} is damaged: a value in it is of the wrong kind ({error}).") from error
    except UserError as error:
        raise UserError(f"The model in {path.parent} cannot be used: {error}") from error
    return config


def _load_t5x(path: Path, head: Head | None, vocabulary: Vocabulary | None) -> PublicModel:
    source = open_t5x(path)
    if head not in (None, "language_model"):
        raise UserError(f"{path} is a checkpoint of T5X, which has no other head than language_model.")
    if vocabulary is None:
        raise UserError(f"{path} comes without a vocabulary; name its SentencePiece model with --vocabulary.")
    config = T5X.read_config({}, "language_model", source)
    check_vocabulary(config, vocabulary, str(path))
    return PublicModel(str(path), T5X, config, vocabulary, plan_import(T5X, config, source), source)


def check_vocabulary(config: TransformerConfig, vocabulary: Vocabulary, origin: str) -> None:
    """Returns if the model has an embedding for every id of the vocabulary, but perhaps for its mask.

    A summariser, such as the released BART of CNN and Daily Mail, may have been cut down to what it reads and writes.

    Raises:
      UserError: it has not.
    """
    assert config.num_embeddings is not None
    beyond = range(config.num_embeddings, vocabulary.num_tokens)
    if set(beyond) - {vocabulary.special_tokens.mask_id}:
        raise UserError(
            f"The vocabulary has {vocabulary.num_tokens} ids, but the model of {origin} only {config.num_embeddings} "
            "embeddings; give the vocabulary it was trained with."
        )


def save_public_model(
    folder: Path,
    config: TransformerConfig,
    vocabulary: Vocabulary,
    params: PyTree,
    *,
    dtype: ExportDtype = "float32",
) -> Family:
    """Writes a folder that Transformers loads, weights, config and tokenizer; returns the model's family.

    The folder appears whole or not at all. One array at a time is on the host.

    Raises:
      UserError: no family's public code can run this model with this vocabulary, or the folder cannot be written.
    """
    family = export_family(config, vocabulary)
    if not is_new(folder, "--to"):
        raise UserError(f"--to {folder} is not empty; give a new or empty folder.")
    public = family.write_config(config, vocabulary.special_tokens)
    with new_folder(folder) as temporary:
        write_safetensors(temporary, export_arrays(family, config, params, DTYPES[dtype]))
        save_public_vocabulary(vocabulary, temporary, public["model_type"], config.max_length)
        write_json(temporary / "config.json", with_labels(public, config, dtype))
    return family


def export_family(config: TransformerConfig, vocabulary: Vocabulary) -> Family:
    """Returns the family whose public code computes what this model does and reads text as this vocabulary does.

    Raises:
      UserError: there is none.
    """
    family = family_of(config)
    if family is None:
        raise UserError(
            "This model has a mixture of knobs that no public family has, so that no public code could run it; see "
            "t5like/families for those that can be exported."
        )
    check_is_public(vocabulary, family.write_config(config, vocabulary.special_tokens)["model_type"])
    return family


def with_labels(public: PublicConfig, config: TransformerConfig, dtype: ExportDtype) -> dict[str, Any]:
    """Returns a public config with the names of its labels, which the public code counts, and its dtype."""
    labels = {}
    if config.head in ("sequence_classification", "token_tagging"):
        names = config.label_names or tuple(f"LABEL_{i}" for i in range(config.num_labels))
        labels = {
            "id2label": {str(i): name for i, name in enumerate(names)},
            "label2id": {name: i for i, name in enumerate(names)},
        }
    return {**public, **labels, "torch_dtype": dtype}
