"""Greedy decoding with a key-value cache, compiled once per shape."""

from typing import Any

import jax
import jax.numpy as jnp

from t5like.models.stacks import unstack_layers
from t5like.models.transformer import DecodingState, Transformer, for_decoding

PyTree = Any
Carry = tuple[jax.Array, DecodingState, jax.Array, jax.Array]
"""Last token of each row [batch], state after all before it, tokens so far [batch, max_length], rows that ended."""


def greedy_decode(
    model: Transformer,
    params: PyTree,
    tokens: jax.Array,
    segment_ids: jax.Array,
    *,
    eos_id: int,
    max_length: int,
) -> jax.Array:
    """Returns the most likely next token again and again, [batch, max_length] int32, zeros after the end mark.

    Stops early when every row has ended. Equal to the argmax of a teacher-forced pass over its own output.

    Args:
      tokens: [batch, inputs_length] int32 encoder inputs.
      segment_ids: [batch, inputs_length] int32, 0 where padded.
      max_length: most tokens to decode, end mark included.
    """

    def append(logits: jax.Array, state: DecodingState, decoded: jax.Array, has_ended: jax.Array) -> Carry:
        token = jnp.where(has_ended, 0, jnp.argmax(logits, axis=-1).astype(jnp.int32))
        decoded = jax.lax.dynamic_update_slice_in_dim(decoded, token[:, None], state.position - 1, axis=1)
        return token, state, decoded, has_ended | (token == eos_id)

    def goes_on(carry: Carry) -> jax.Array:
        _, state, _, has_ended = carry
        return (state.position < max_length) & ~jnp.all(has_ended)

    def decode_one(carry: Carry) -> Carry:
        token, state, decoded, has_ended = carry
        logits, state = model.apply(variables, token, state, method=Transformer.decode_step)
        return append(logits, state, decoded, has_ended)

    start = jnp.zeros((tokens.shape[0], 1), jnp.int32)
    batch = {
        "encoder_input_tokens": tokens,
        "encoder_segment_ids": segment_ids,
        "decoder_input_tokens": start,
        "decoder_segment_ids": start + 1,
    }
    model = Transformer(for_decoding(model.config), model.rules)
    variables = {"params": unstack_layers(params)}
    logits, state = model.apply(variables, batch, max_length, method=Transformer.start_decoding)
    decoded = jnp.zeros((tokens.shape[0], max_length), jnp.int32)
    # A row of padding alone (the filling of a last batch) has nothing to say.
    has_ended = jnp.all(segment_ids == 0, axis=1)
    return jax.lax.while_loop(goes_on, decode_one, append(logits, state, decoded, has_ended))[2]
