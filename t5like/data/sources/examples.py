"""The text in a tf.train.Example, the record of TFDS and of most pipelines that write TFRecord or ArrayRecord."""

import functools
from typing import Any

from google.protobuf.message import DecodeError

from t5like.data.sources.fields import FieldError, RecordError, missing_field, text_of_value


def text_of_example(record: bytes, text_field: str) -> str:
    """Returns the text in a feature of a serialised tf.train.Example.

    Raises:
      FieldError: it has no such feature, or one that is not one text.
      RecordError: it is no tf.train.Example, or the text is not UTF-8.
    """
    try:
        features = _example_class().FromString(record).features.feature
    except DecodeError as error:
        raise RecordError("not a tf.train.Example") from error
    if not features:
        raise RecordError("not a tf.train.Example with features")
    if text_field not in features:
        raise missing_field(text_field, sorted(features))
    values = features[text_field].bytes_list.value
    if len(values) != 1:
        kind = features[text_field].WhichOneof("kind") or "nothing"
        raise FieldError(f"the field {text_field!r} is {kind} of {len(values)} texts, not one text")
    return text_of_value(values[0], text_field)


@functools.cache
def _example_class() -> Any:
    # Imported where it is needed: it brings TFDS with it, and takes a third of a second.
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example
