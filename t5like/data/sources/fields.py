"""The text in a record: one field of it, and what to say where that field is missing or holds something else."""

import difflib
import json
from collections.abc import Iterable

from t5like.errors import DamagedRecordError

_MAX_FIELDS_NAMED = 12


class RecordError(Exception):
    """A record is not what it should be; the message says why, and whoever counts the records says where it is."""


class FieldError(RecordError):
    """A record has no field of the name that was asked for, or one that is not of text."""


class WrongFieldError(DamagedRecordError):
    """The same, with the place: in the first record of a source it is the name that is wrong, not the data."""


def missing_field(text_field: str, fields: Iterable[str]) -> FieldError:
    """Returns the error that says which fields there are, and which of them is nearest in name."""
    names = list(fields)
    nearest = difflib.get_close_matches(text_field, names, n=1)
    advice = f"; the nearest is {nearest[0]!r}" if nearest else ""
    only = ", ".join(names[:_MAX_FIELDS_NAMED]) + (", ..." if len(names) > _MAX_FIELDS_NAMED else "")
    return FieldError(
        f"no field {text_field!r}, only {only or 'an empty object'}{advice}: name the one that holds the text with "
        "--text_field"
    )


def text_of_value(value: object, text_field: str) -> str:
    """Returns the text that a field holds, as a string or as bytes of UTF-8.

    Raises:
      FieldError: it holds something else.
      RecordError: it holds nothing, or bytes that are not UTF-8.
    """
    if isinstance(value, str):
        return value
    if value is None:
        raise RecordError(f"the field {text_field!r} is null, not text")
    if not isinstance(value, bytes):
        raise FieldError(f"the field {text_field!r} is {repr(value)[:40]}, not text")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(
            f"the field {text_field!r} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error


def text_of_json(line: bytes, text_field: str) -> str:
    """Returns the text in a line of JSON, which is one object.

    Raises:
      FieldError: it has no such field, or one that is not a string.
      RecordError: it is no JSON object, or the field is null or holds what UTF-8 cannot.
    """
    try:
        # A string is decoded once; given bytes, json would first guess among five encodings.
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RecordError(f"not UTF-8 text: {error.reason} at byte {error.start} of the line") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not JSON ({error})") from error
    if not isinstance(record, dict):
        raise RecordError(
            f"not a JSON object but a {type(record).__name__}, so it has no field {text_field!r}"
        )
    try:
        text = record[text_field]
    except KeyError:
        raise missing_field(text_field, record) from None
    if text is None:
        raise RecordError(f"the field {text_field!r} is null, not a string")
    if not isinstance(text, str):
        raise FieldError(f"the field {text_field!r} is {json.dumps(text)[:40]}, not a string")
    if b"\\u" in line:  # only an escape gives what UTF-8 cannot hold
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise RecordError(f"the field {text_field!r} holds half of a surrogate pair") from error
    return text
