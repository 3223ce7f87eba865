"""Masks, laid out and not."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.models.masks import Mask, causal_mask, prefix_mask, segment_mask


def test_segment_mask_example_of_the_docstring():
    mask = segment_mask(jnp.array([[1, 1, 2, 0]]), jnp.array([[1, 2, 2, 0]]))
    expected = [
        [1, 0, 0, 0],
        [1, 0, 0, 0],
        [0, 1, 1, 0],
        [0, 0, 0, 0],
    ]
    assert mask.shape == (1, 1, 4, 4)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask[0, 0], expected)


def test_causal_mask_example_of_the_docstring():
    np.testing.assert_array_equal(causal_mask(3), [[[[1, 0, 0], [1, 1, 0], [1, 1, 1]]]])


def test_prefix_mask_example_of_the_docstring():
    mask = prefix_mask(jnp.array([[1, 1, 0]]))
    np.testing.assert_array_equal(mask, [[[[1, 1, 0], [1, 1, 0], [1, 1, 1]]]])


def test_marks_example_of_the_docstring():
    segments = jnp.array([[1, 1, 2, 0]])
    mask = Mask(
        query_segments=segments,
        key_segments=segments,
        is_causal=True,
        is_prefix=jnp.array([[1, 0, 1, 0]]),
    )
    query, key = mask.marks()
    np.testing.assert_array_equal(query, [[[1, 1, 2, 0], [1, 2, 1, 2]]])
    np.testing.assert_array_equal(key, [[[1, 1, 2, -1], [1, 3, 1, 3]]])


@pytest.mark.parametrize("kind", ["both_ways", "causal", "prefix"])
@settings(deadline=None, max_examples=30)
@given(segments=st.lists(st.integers(0, 3), min_size=5, max_size=5), prefix=st.integers(0, 31))
def test_marks_say_who_sees_whom_as_the_mask_laid_out_does(kind, segments, prefix):
    segments = np.array([segments], np.int32)
    is_prefix = np.array([[prefix >> i & 1 for i in range(5)]], np.int32)
    mask = Mask(
        query_segments=segments,
        key_segments=segments,
        is_causal=kind != "both_ways",
        is_prefix=is_prefix if kind == "prefix" else None,
    )
    query, key = map(np.asarray, mask.marks())
    same = query[:, :, :, None] == key[:, :, None, :]
    seen = same[:, :1]
    if mask.is_causal:
        lifted = same[:, 1:].any(axis=1, keepdims=True)
        seen = seen & (lifted | (np.arange(5)[None, :] <= np.arange(5)[:, None]))
    np.testing.assert_array_equal(mask.dense(), seen)
    by_hand = [
        [
            bool(segments[0, k])
            and segments[0, q] == segments[0, k]
            and (
                kind == "both_ways"
                or k <= q
                or (kind == "prefix" and bool(is_prefix[0, q] * is_prefix[0, k]))
            )
            for k in range(5)
        ]
        for q in range(5)
    ]
    np.testing.assert_array_equal(seen[0, 0], by_hand)
