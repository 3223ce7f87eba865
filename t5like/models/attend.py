"""From queries, keys and values to attended values: the ways to compute attention, all with the same result.

Letters in einsums: b batch, q query position, k key position, h head, d head_dim.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from t5like.models.layers import dropout

MASKED = -1e10  # T5's value; finite, so that a row with nothing to attend to stays finite
LEAST = -1e9
"""What a largest logit is taken for at least, where blocks are: far above MASKED, so that what is masked weighs 0 in
every row."""


class KeyValue(NamedTuple):
    """Keys and values of one attention, each [batch, key, heads, head_dim]."""

    key: jax.Array
    value: jax.Array


class Cached(NamedTuple):
    """Keys and values as products of few queries read them fastest."""

    key: jax.Array  # [batch, heads, head_dim, key]
    value: jax.Array  # [batch, heads, key, head_dim]


def attend_at_once(
    query: jax.Array,
    key_value: KeyValue,
    bias: jax.Array | None,
    mask: jax.Array,
    dropout_rate: float,
    dropout_key: jax.Array | None,
    *,
    shares_dropout: bool = True,
) -> jax.Array:
    """Returns the attended values [batch, query, heads, head_dim]; holds every logit of the batch at once.

    Args:
      query: [batch, query, heads, head_dim].
      key_value, bias, mask, dropout_key: as `Attention`.
      shares_dropout: whether one draw serves all queries.
    """
    # [batch, query, heads, head_dim] x [batch, key, heads, head_dim] -> [batch, heads, query, key]
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key_value.key).astype(jnp.float32)
    if bias is not None:
        logits = logits + bias
    weights = jax.nn.softmax(jnp.where(mask, logits, MASKED), axis=-1).astype(query.dtype)
    axes = (-2,) if shares_dropout else ()
    weights = dropout(weights, dropout_rate, dropout_key, broadcast_axes=axes)
    return checkpoint_name(jnp.einsum("bhqk,bkhd->bqhd", weights, key_value.value), "attended")


def attend_to_cache(query: jax.Array, cache: Cached, bias: jax.Array | None, mask: jax.Array) -> jax.Array:
    """Returns the attended values [batch, query, heads, head_dim], of a cache that lies as the products read it.

    Nothing of it is transposed, which would cost more than the attention of one token.

    Args:
      query: [batch, query, heads, head_dim].
      bias, mask: as `Attention`.
    """
    logits = jnp.einsum("bqhd,bhdk->bhqk", query, cache.key).astype(jnp.float32)
    if bias is not None:
        logits = logits + bias
    weights = jax.nn.softmax(jnp.where(mask, logits, MASKED), axis=-1).astype(query.dtype)
    # Asked for heads second at once, XLA's CPU compiler writes loops that take up to ten times as long as this product.
    return jnp.einsum("bhqk,bhkd->bhqd", weights, cache.value).swapaxes(1, 2)


def drop_values(value: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Returns the values [batch, key, heads, head_dim] after the dropout of weights that all queries share.

    Since it is the same for every query, it may as well act on the values: (w * s) v = w (s v).
    """
    if key is None or rate == 0.0:
        return value
    batch, num_keys, heads, _ = value.shape
    kept = dropout(jnp.ones((batch, heads, 1, num_keys), value.dtype), rate, key)
    return value * kept[:, :, 0].swapaxes(1, 2)[..., None]
