"""From queries, keys and values to attended values: the ways to compute attention, all with the same result.

Letters in einsums: b batch, q query position, k key position, h head, d head_dim.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from t5like.models.layers import dropout

MASKED = -1e10  # T5's value; finite, so that a row with nothing to attend to stays finite


class KeyValue(NamedTuple):
    """Keys and values of one attention, each [batch, key, heads, head_dim], in a cache [batch, heads, key, head_dim]."""

    key: jax.Array
    value: jax.Array


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
    return jnp.einsum("bhqk,bkhd->bqhd", weights, key_value.value)


def attend_to_cache(query: jax.Array, cache: KeyValue, bias: jax.Array | None, mask: jax.Array) -> jax.Array:
    """Returns the attended values [batch, query, heads, head_dim], of a cache that lies as the products read it.

    With heads before positions nothing is transposed, where that would cost more than the attention of one token.

    Args:
      query: [batch, query, heads, head_dim].
      cache: heads first.
      bias, mask: as `Attention`.
    """
    logits = jnp.einsum("bqhd,bhkd->bhqk", query, cache.key).astype(jnp.float32)
    if bias is not None:
        logits = logits + bias
    weights = jax.nn.softmax(jnp.where(mask, logits, MASKED), axis=-1).astype(query.dtype)
    return jnp.einsum("bhqk,bhkd->bqhd", weights, cache.value)


def attend_per_example(
    query: jax.Array,
    key_value: KeyValue,
    bias: jax.Array | None,
    mask: jax.Array,
    dropout_rate: float,
    dropout_key: jax.Array | None,
) -> jax.Array:
    """Returns what `attend_at_once` does, dropout included, one example after another.

    The logits of one example fit a CPU's cache, those of a batch do not; the backward pass computes them again
    instead of reading them back from memory.
    """
    value = drop_values(key_value.value, dropout_rate, dropout_key)
    mask = jnp.broadcast_to(mask, (query.shape[0], *mask.shape[1:]))
    return _attend_each(query, key_value.key, value, mask, bias)


def drop_values(value: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Returns the values [batch, key, heads, head_dim] after the dropout of weights that all queries share.

    Since it is the same for every query, it may as well act on the values: (w * s) v = w (s v).
    """
    if key is None or rate == 0.0:
        return value
    batch, num_keys, heads, _ = value.shape
    kept = dropout(jnp.ones((batch, heads, 1, num_keys), value.dtype), rate, key)
    return value * kept[:, :, 0].swapaxes(1, 2)[..., None]


@jax.custom_vjp
def _attend_each(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array, bias: jax.Array | None
) -> jax.Array:
    """Returns the attended values; shapes as in `attend_at_once`, with a mask [batch, 1, query, key]."""
    return _attend_each_forward(query, key, value, mask, bias)[0]


def _attend_each_forward(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array, bias: jax.Array | None
) -> tuple[jax.Array, Any]:
    """Returns the attended values, and what the backward pass needs: nothing as large as the logits."""

    def attend_one(one: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        q, k, v = map(_heads_first, one[:3])
        logits = _logits_of_one(q, k, one[3], bias)
        largest = jnp.max(logits, axis=-1, keepdims=True)
        weights = jnp.exp(logits - largest)
        scale = 1.0 / jnp.sum(weights, axis=-1, keepdims=True)
        attended = jnp.einsum("hqk,hkd->hqd", weights.astype(v.dtype), v) * scale
        return _heads_first(attended.astype(v.dtype)), largest, scale

    attended, largest, scale = jax.lax.map(attend_one, (query, key, value, mask))
    return attended, (query, key, value, mask, bias, attended, largest, scale)


def _attend_each_backward(residuals: Any, gradient: jax.Array) -> tuple[jax.Array | None, ...]:
    query, key, value, mask, bias, attended, largest, scale = residuals

    def backward_one(
        bias_gradient: jax.Array | None, one: tuple[jax.Array, ...]
    ) -> tuple[jax.Array | None, tuple[jax.Array, ...]]:
        q, k, v, attended, gradient = map(_heads_first, one[:5])
        mask, largest, scale = one[5:]
        weights = jnp.exp(_logits_of_one(q, k, mask, bias) - largest) * scale
        of_value = jnp.einsum("hqk,hqd->hkd", weights.astype(v.dtype), gradient)
        of_weights = jnp.einsum("hqd,hkd->hqk", gradient, v).astype(jnp.float32)
        # The gradient of a softmax is w (g - sum(w g)). That sum over keys equals one over head_dim, of the attended
        # values times their gradient, which is much shorter.
        weighted_sum = jnp.sum((attended * gradient).astype(jnp.float32), axis=-1, keepdims=True)
        of_logits = weights * (of_weights - weighted_sum)
        if bias_gradient is not None:
            bias_gradient = bias_gradient + of_logits
        of_logits = of_logits.astype(q.dtype)
        of_query = jnp.einsum("hqk,hkd->hqd", of_logits, k)
        of_key = jnp.einsum("hqk,hqd->hkd", of_logits, q)
        return bias_gradient, (_heads_first(of_query), _heads_first(of_key), _heads_first(of_value))

    examples = (query, key, value, attended, gradient, mask, largest, scale)
    start = None if bias is None else jnp.zeros_like(bias[0])
    bias_gradient, gradients = jax.lax.scan(backward_one, start, examples)
    return *gradients, None, None if bias_gradient is None else bias_gradient[None]


_attend_each.defvjp(_attend_each_forward, _attend_each_backward)


def _heads_first(x: jax.Array) -> jax.Array:
    """Returns x [length, heads, head_dim] as [heads, length, head_dim], and back."""
    return x.swapaxes(0, 1)


def _logits_of_one(query: jax.Array, key: jax.Array, mask: jax.Array, bias: jax.Array | None) -> jax.Array:
    """Returns the masked logits [heads, query, key] float32 of one example, heads first."""
    logits = jnp.einsum("hqd,hkd->hqk", query, key).astype(jnp.float32)
    if bias is not None:
        logits = logits + bias[0]
    return jnp.where(mask, logits, MASKED)
