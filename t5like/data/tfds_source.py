"""Records of TFDS data sets, by name: read where they are prepared, downloaded and prepared first where they are not.

TensorFlow is never imported; see tfds_preparation.py.
"""

import contextlib
import difflib
import importlib
import os
from collections.abc import Sequence
from typing import Any

from t5like.data.tfds_preparation import UnreachableHostError, lent_to_tfds, needs_beam
from t5like.errors import DamagedDataError, UserError

# TFDS knows a data set once its module is imported. By itself it imports these packages only where it can import all of
# its others, which takes what few machines have.
_TEXT_PACKAGES = ("text", "summarization", "question_answering", "translate", "text_simplification")


class NoRandomAccessError(UserError):
    """A TFDS data set is stored in files whose records have no numbers, like TFRecord.

    Attributes:
      paths: the files of the split.
    """

    def __init__(self, message: str, paths: list[str]) -> None:
        super().__init__(message)
        self.paths = paths


class Records(Sequence[dict[str, Any]]):
    """The records of a split, each read when it is asked for; a slice is read in one go, as a list.

    Attributes:
      full_name: the name of the data set, with its configuration and version.
      fields: the names of the features of every record.
      paths: the files of the split.
    """

    def __init__(
        self,
        source: Any,
        full_name: str,
        fields: Sequence[str],
        paths: list[str],
        *,
        place: str,
        remedy: str,
    ) -> None:
        self.full_name = full_name
        self.fields = fields
        self.paths = paths
        self._source = source
        self._place = place
        self._remedy = remedy

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: Any) -> Any:
        chosen = range(len(self))[index]  # IndexError ends a loop; TFDS would raise ValueError
        try:
            return self._source.__getitems__(chosen) if isinstance(chosen, range) else self._source[chosen]
        except Exception as error:  # whatever a reader says of a file that is gone or damaged
            raise DamagedDataError(
                f"{self._place} is damaged ({_first_line(error)}): {self._remedy}."
            ) from error


def open_data_source(name: str, split: str, *, alternative: str) -> Records:
    """Returns the records of a TFDS split, at least one, in their stored order; text is bytes.

    A data set that is prepared on this machine is read as it is, in its latest version there unless `name` says which.

    Args:
      name: `dataset`, `dataset/config` or `dataset/config:version`.
      split: the name of a split.
      alternative: what else the user could do, for messages, like `pass --data_dir`.

    Raises:
      NoRandomAccessError: it is prepared on this machine, in files that have to be read from front to back.
      UserError: there is no such data set or split, it can be neither read nor prepared here, or it is empty.
      DamagedDataError: later, from the records, where one cannot be read.
    """
    builder = _builder_on_disk(name)
    if builder is None:
        builder = _prepare(name, alternative)
    if split not in builder.info.splits:
        raise UserError(
            f"TFDS data set {name} has no split {split!r}, only {', '.join(builder.info.splits)}: {alternative}."
        )
    place = f"TFDS data set {name} at {builder.data_path}"
    remedy = f"remove it and {_elsewhere(name, alternative)}"
    paths = [str(path) for path in builder.info.splits[split].filepaths]
    if outside := [path for path in paths if os.path.relpath(path, builder.data_path).startswith(os.pardir)]:
        raise UserError(f"{place} names {outside[0]}, which lies outside of it: {remedy}.")
    try:
        source = builder.as_data_source(split=split)
    except NotImplementedError as error:
        message = f"{place} is stored without random access, so only TensorFlow reads it: {remedy}."
        raise NoRandomAccessError(message, paths) from error
    info = builder.info
    records = Records(source, info.full_name, list(info.features), paths, place=place, remedy=remedy)
    if not len(records):
        raise UserError(f"{place} has no records in its split {split!r}.")
    return records


def splits_on_disk(name: str) -> list[str]:
    """Returns the names of the splits of a TFDS data set that is prepared on this machine.

    Raises:
      UserError: it is not.
    """
    builder = _builder_on_disk(name)
    if builder is None:
        raise UserError(f"TFDS data set {name} is not prepared on this machine.")
    return list(builder.info.splits)


def _builder_on_disk(name: str) -> Any | None:
    # Imported where it is needed: that takes a second, and local files do without.
    from tensorflow_datasets.core.read_only_builder import builder_from_files
    from tensorflow_datasets.core.registered import DatasetNotFoundError

    try:
        return builder_from_files(name)
    except DatasetNotFoundError:
        return None
    except Exception as error:  # a malformed name, or broken metadata
        raise UserError(f"Cannot open the TFDS data set {name!r}: {_first_line(error)}") from error


def _prepare(name: str, alternative: str) -> Any:
    """Returns the builder of a data set that it downloads and prepares."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.utils.file_utils import list_data_dirs

    folders = ", ".join(map(str, list_data_dirs()))
    missing = f"TFDS data set {name} is not prepared on this machine (TFDS_DATA_DIR: {folders})"
    try:
        builder_class = _builder_class(name)
        # TFDS 4.9.10 has no prepared copy to offer: its bucket of them is switched off, and only for tfrecord.
        if needs_beam(builder_class):
            packages = "tensorflow apache-beam"
            raise UserError(
                f"{missing}, and preparing it takes Apache Beam: {_elsewhere(name, alternative, packages)}."
            )
        with lent_to_tfds(builder_class):
            builder = tfds.builder(name)
            builder.download_and_prepare(
                file_format="array_record",
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
            )
        return builder
    except UserError:
        raise
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(
            f"{missing}, and TFDS knows none of this name: correct it, or {alternative}."
        ) from error
    except UnreachableHostError as error:
        raise UserError(f"{missing}, and {error}: {_elsewhere(name, alternative)}.") from error
    except Exception as error:  # builders raise whatever they like
        raise UserError(
            f"{missing} and cannot be prepared on it ({_first_line(error)}): {_elsewhere(name, alternative)}."
        ) from error


def _builder_class(name: str) -> type:
    """Returns the class that knows where a data set is and how to prepare it.

    Raises:
      DatasetNotFoundError: no class of TFDS is named so; those it takes from other collections are left out.
      UserError: the class has no such configuration.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import naming

    reference, options = naming.parse_builder_name_kwargs(name)
    if reference.namespace:
        raise tfds.core.DatasetNotFoundError
    for package in _TEXT_PACKAGES:
        with contextlib.suppress(ImportError):
            importlib.import_module(f"tensorflow_datasets.{package}")
    builder_class = tfds.builder_cls(reference.name)
    names = [config.name for config in builder_class.BUILDER_CONFIGS]
    if (config := options.get("config")) not in (None, *names):
        nearest = ", ".join(difflib.get_close_matches(config, names, n=3, cutoff=0.3) or names[:3])
        known = f"of its {len(names)}, the nearest are {nearest}" if names else "it has none at all"
        raise UserError(f"TFDS data set {reference.name} has no configuration {config!r}; {known}.")
    return builder_class


def _elsewhere(name: str, alternative: str, packages: str = "tensorflow") -> str:
    return (
        f"{alternative}, or where a network is, run `pip install tensorflow-datasets {packages}` and "
        f"`tfds build {name} --file_format=array_record`, and set TFDS_DATA_DIR to a copy of its folder"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
