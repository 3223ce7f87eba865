"""The largest logits of a row are those `jax.lax.top_k` finds, in its order, of however many ids."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.decoding.largest import largest, largest_by_blocks, largest_of_all

WAYS = [jax.jit(find, static_argnums=1) for find in (largest, largest_by_blocks, largest_of_all)]


# Few values, so that there are equals within blocks and across them; -inf for ids that are forbidden.
@given(
    st.sampled_from([1, 100, 128, 300, 1000, 1024, 1280]),
    st.sampled_from([1, 2, 3, 5]),
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=150)
def test_they_are_those_of_top_k_and_of_equals_the_first(vocab, num, num_values, seed):
    logits = np.random.default_rng(seed).integers(0, num_values, (3, vocab)).astype(np.float32)
    logits[logits == 0] = -np.inf
    num = min(num, vocab)
    expected, expected_ids = jax.lax.top_k(logits, num)
    for find in WAYS:
        values, ids = find(jnp.asarray(logits), num)
        np.testing.assert_array_equal(values, expected)
        np.testing.assert_array_equal(ids, expected_ids)


def test_a_vocabulary_is_not_gone_through_for_them():
    program = jax.jit(lambda logits: largest(logits, 4)).lower(jnp.zeros((2, 12_800))).compile().as_text()
    looked_into = [line for line in program.splitlines() if "TopK" in line]
    assert looked_into
    assert not any("f32[2,12800]" in line for line in looked_into)
