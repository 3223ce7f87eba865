"""Folders that `save_to_disk` of Hugging Face datasets writes, and what describes the data in them and in those of TFDS.

A data set is Arrow files, and state.json says which and in what order. A DatasetDict is a folder of data sets, one for
each split, and dataset_dict.json says which.
"""

import json
import os
from collections.abc import Iterable
from typing import Any

from t5like.data.sources.files import File, find_files
from t5like.data.standard_library import Split
from t5like.errors import UserError

_DICT, _INFO, _STATE = "dataset_dict.json", "dataset_info.json", "state.json"


def splits_of(location: str) -> list[str]:
    """Returns the splits of a DatasetDict, and none where there is no DatasetDict.

    Raises:
      UserError: the file that names them cannot be read.
    """
    path = os.path.join(os.path.expanduser(location), _DICT)
    return _read_names(path, "splits") if os.path.isfile(path) else []


def dataset_files(location: str, split: Split) -> list[File] | None:
    """Returns the files of a data set, or of that of a DatasetDict's split, in their order; None where there is none.

    Raises:
      UserError: there is no such split, a file is missing, or the rows are in another order than the files have them.
    """
    if splits := splits_of(location):
        if split not in splits:
            raise UserError(
                f"{location} has no split {split!r}, only {', '.join(splits)}: name the folder of one of them."
            )
        location = os.path.join(location, split)
    folder = os.path.expanduser(location)
    state = os.path.join(folder, _STATE)
    if not (os.path.isfile(state) and os.path.isfile(os.path.join(folder, _INFO))):
        return None
    content = _read_json(state)
    if content.get("_indices_files") or content.get("_indices_data_files"):
        raise UserError(
            f"{location} holds rows that were chosen or shuffled by a list of indices, which is not read: save it "
            "again after `dataset.flatten_indices()`."
        )
    files = {file.relative: file for file in find_files(location)}
    names = _read_names(state, "_data_files", "filename")
    if missing := [name for name in names if name not in files]:
        raise UserError(f"{location} lacks {missing[0]}, which its {_STATE} names.")
    return [files[name] for name in names]


def without_descriptions(location: str, files: Iterable[File]) -> list[File]:
    """Returns the files that hold data: of a folder with a dataset_info.json, not what says how to read the others.

    Raises:
      UserError: a data set of Hugging Face is among them, whose files have an order of their own.
    """
    files = list(files)
    described = {os.path.dirname(file.relative) for file in files if _name(file) == _INFO}
    data = []
    for file in files:
        if os.path.dirname(file.relative) not in described:
            data.append(file)
        elif _name(file) == _STATE:
            raise UserError(
                f"{os.path.dirname(file.name)} is a data set of Hugging Face, which is read from a disk, and by "
                "itself: name that folder."
            )
        elif _name(file) not in (_INFO, "features.json") and not _name(file).endswith(".labels.txt"):
            data.append(file)
    if not data:
        raise UserError(f"{location} holds no data, only {_INFO}.")
    return data


def _name(file: File) -> str:
    return os.path.basename(file.relative)


def _read_names(path: str, key: str, inner: str | None = None) -> list[str]:
    """Returns the names in a list of a file, or those that its items have under `inner`."""
    names = _read_json(path).get(key)
    if isinstance(names, list):
        if inner is not None:
            names = [item.get(inner) if isinstance(item, dict) else None for item in names]
        if names and all(isinstance(name, str) for name in names):
            return names
    raise UserError(f"{path} is damaged: it has no list of names under {key!r}; save the data set again.")


def _read_json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"Cannot read {path}: {error}.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it is no JSON object; save the data set again.")
    return content
