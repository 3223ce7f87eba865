"""Attention in blocks beside attention at once, on the same random queries, keys, values, biases and masks."""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from t5like.models.attend import KeyValue, attend_at_once
from t5like.models.attend_in_blocks import attend_in_blocks
from t5like.models.masks import Mask
from t5like.models.relative_bias import Diagonals
from t5like.sharding import AxisRules


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """Sizes and kind of one attention; queries and keys of the same length are the same tokens."""

    num_queries: int
    num_keys: int
    batch: int = 2
    heads: int = 2
    head_dim: int = 8
    is_causal: bool = False
    has_prefixes: bool = False
    has_bias: bool = True
    dtype: str = "float32"

    def arrays(self):
        """Returns what is differentiated (query, key, value and, with a bias, its values), the mask, a gradient."""
        rng = np.random.default_rng(0)
        shape = (self.batch, self.num_queries, self.heads, self.head_dim)
        of_keys = (self.batch, self.num_keys, self.heads, self.head_dim)
        query, key, value, gradient = (
            jnp.asarray(rng.normal(size=shape), self.dtype) for shape in (shape, of_keys, of_keys, shape)
        )
        segments = packed_segments(rng, self.batch, self.num_queries)
        is_same = self.num_queries == self.num_keys
        mask = Mask(
            query_segments=segments,
            key_segments=segments if is_same else packed_segments(rng, self.batch, self.num_keys),
            is_causal=self.is_causal,
            is_prefix=rng.integers(0, 2, segments.shape) if self.has_prefixes else None,
        )
        values = rng.normal(size=(self.heads, self.num_queries + self.num_keys))
        bias = (jnp.asarray(values, jnp.float32),) if self.has_bias else ()
        return (query, key, value, *bias), mask, gradient


def packed_segments(rng, batch, length):
    """Returns segment ids [batch, length] of rows that hold two or three texts and some padding."""
    ends = np.sort(rng.integers(1, length + 1, (batch, 3)), axis=1)
    segments = 1 + (np.arange(length)[None, :, None] >= ends[:, None, :]).sum(-1)
    return np.where(segments == 4, 0, segments).astype(np.int32)


def attend(way, case, mask, query, key, value, values=None):
    """Returns the attended values; way None: all at once."""
    bias = None if values is None else Diagonals(values, case.num_queries, case.num_keys)
    key_value = KeyValue(key, value)
    if way is None:
        laid_out = None if bias is None else bias.dense()
        return attend_at_once(query, key_value, laid_out, mask.dense(), 0.0, None)
    return attend_in_blocks(way, query, key_value, bias, mask, 0.0, None, rules=AxisRules())


def attend_and_back(way, case, arrays, mask, gradient):
    """Returns the attended values, and the gradients of the arrays given that of the values."""
    y, transpose = jax.vjp(functools.partial(attend, way, case, mask), *arrays)
    return y, transpose(gradient)


def assert_equals_attention_at_once(way, case, *, tolerance, mesh=None):
    """Passes if values and all gradients are the same but for rounding, relative to the largest entry of each.

    Only of queries that see something: what the others are given differs, and means nothing.
    """
    arrays, mask, gradient = case.arrays()
    sees = np.asarray(mask.dense()).any(axis=-1)[:, 0, :, None, None]
    gradient = jnp.where(sees, gradient, 0)
    expected = jax.jit(functools.partial(attend_and_back, None, case))(arrays, mask, gradient)
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        found = jax.jit(functools.partial(attend_and_back, way, case))(arrays, mask, gradient)
    seen = ((jnp.where(sees, y, 0), gradients) for y, gradients in (found, expected))
    for x, y in zip(*map(jax.tree.leaves, seen), strict=True):
        assert x.dtype == y.dtype
        x, y = (np.asarray(z, np.float32) for z in (x, y))
        assert np.abs(y).max() > 0.01, "there is nothing to compare"
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * np.abs(y).max())


def largest_array(function, *arguments):
    """Returns how many numbers the largest array holds that a function and all it calls make."""
    jaxpr = jax.make_jaxpr(function)(*arguments)
    return max(_sizes(jaxpr.jaxpr))


def _sizes(jaxpr):
    for equation in jaxpr.eqns:
        yield from (getattr(variable.aval, "size", 0) for variable in equation.outvars)
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from _sizes(inner)
