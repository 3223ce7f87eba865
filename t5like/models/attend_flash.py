"""Attention by the TPU kernels in t5like/kernels: how what the model has becomes what they read, and back.

Where there is no TPU, the kernels are interpreted, which is slow: that is to check them.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from t5like.kernels.flash_backward import OfAttended, flash_backward
from t5like.kernels.flash_blocks import Inputs, padded, sizes_of
from t5like.kernels.flash_forward import flash_forward
from t5like.kernels.toeplitz_tiles import bias_rows
from t5like.models.attend_in_blocks import Blockwise, Forward, Gradients
from t5like.models.masks import Mask
from t5like.models.relative_bias import Diagonals


def forward(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: Diagonals | None, mask: Mask
) -> Forward:
    """Returns what `Blockwise.forward` should."""
    inputs, num_queries = _inputs(query, key, value, bias, mask), query.shape[1]
    sizes = sizes_of(inputs, is_causal=mask.is_causal)
    attended, log_total = _on_platform(functools.partial(flash_forward, sizes=sizes), inputs)
    return Forward(_positions_second(attended, num_queries), log_total[:, :, 0, :num_queries])


def backward(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: Diagonals | None,
    mask: Mask,
    done: Forward,
    gradient: jax.Array,
) -> Gradients:
    """Returns what `Blockwise.backward` should."""
    inputs = _inputs(query, key, value, bias, mask)
    sizes = sizes_of(inputs, is_causal=mask.is_causal)
    weighted_sum = jnp.einsum("bqhd,bqhd->bhq", done.attended, gradient, preferred_element_type=jnp.float32)
    of_attended = OfAttended(
        _positions_last(gradient), _pad(done.log_total[:, :, None]), _pad(weighted_sum[:, :, None])
    )
    of_inputs = _on_platform(functools.partial(flash_backward, sizes=sizes), inputs, of_attended)
    of_bias = None
    if bias is not None:
        _, transpose = jax.vjp(_bias_rows, bias)
        (of_bias,) = transpose(of_inputs.bias)
    return Gradients(
        _positions_second(of_inputs.query, query.shape[1]),
        _positions_second(of_inputs.key, key.shape[1]),
        _positions_second(of_inputs.value, key.shape[1]),
        of_bias,
    )


FLASH = Blockwise(forward, backward)


def _on_platform(kernel: Callable[..., Any], *arguments: Any) -> Any:
    """Returns what a kernel gives, chosen when it is compiled: for a TPU as it is, elsewhere interpreted."""
    return jax.lax.platform_dependent(
        *arguments,
        tpu=functools.partial(kernel, is_interpreted=False),
        default=functools.partial(kernel, is_interpreted=True),
    )


def _inputs(query: jax.Array, key: jax.Array, value: jax.Array, bias: Diagonals | None, mask: Mask) -> Inputs:
    """Returns what the kernels read; marks of padding are such that none is seen."""
    query_marks, key_marks = mask.marks()
    return Inputs(
        _positions_last(query),
        _positions_last(key),
        _positions_last(value),
        _pad(query_marks.astype(jnp.int32)),
        _pad(key_marks.astype(jnp.int32), fill=-1),
        None if bias is None else _bias_rows(bias),
    )


def _bias_rows(bias: Diagonals) -> jax.Array:
    num_queries, num_keys = padded(bias.query_length), padded(bias.key_length)
    return bias_rows(bias.values, bias.query_length, bias.key_length, num_queries, num_keys)


def _pad(x: jax.Array, fill: int = 0) -> jax.Array:
    """Returns x [..., length] as [..., padded length]."""
    spare = padded(x.shape[-1]) - x.shape[-1]
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, spare)], constant_values=fill)


def _positions_last(x: jax.Array) -> jax.Array:
    # [batch, length, heads, head_dim] -> [batch, heads, head_dim, padded length]
    return _pad(x.transpose(0, 2, 3, 1))


def _positions_second(x: jax.Array, length: int) -> jax.Array:
    # [batch, heads, head_dim, padded length] -> [batch, length, heads, head_dim]
    return x[..., :length].transpose(0, 3, 1, 2)
