"""The attention of a layer: its projections, and which way the config has it computed.

Bias and mask come as long as the rows are, `Diagonals` and `Mask`. `at_once`, in attend.py, wants them laid out over
queries and keys; the others, in attend_in_blocks.py, do not.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh

from t5like.errors import UserError
from t5like.models.attend import Cached, KeyValue, attend_at_once, attend_to_cache
from t5like.models.attend_chunked import CHUNKED
from t5like.models.attend_flash import FLASH
from t5like.models.attend_in_blocks import attend_in_blocks
from t5like.models.attend_per_example import PER_EXAMPLE
from t5like.models.config import AttentionWay, TransformerConfig
from t5like.models.layers import fan_in_normal, linear, project
from t5like.models.masks import Mask
from t5like.models.relative_bias import Diagonals
from t5like.sharding import AxisRules

JOINED = "query_key_value"
_BLOCKWISE = {"per_example": PER_EXAMPLE, "chunked": CHUNKED, "flash": FLASH}


def way_on(c: TransformerConfig, mesh: Mesh, rules: AxisRules) -> AttentionWay:
    """Returns how the attention of a config is computed on a mesh: as it says, but `flash` only where there are TPUs.

    Elsewhere that is `chunked`, so that what was trained on a TPU is evaluated, or tried out before, anywhere.

    Raises:
      UserError: if that way cannot be split as the mesh wants it.
    """
    if c.attention not in _BLOCKWISE:
        return c.attention
    axes = (rules.heads,) if isinstance(rules.heads, str) else rules.heads or ()
    ways = math.prod(mesh.shape[axis] for axis in axes if axis in mesh.shape)
    if c.num_heads % ways:
        raise UserError(
            f"model.attention {c.attention} gives each device whole heads, and {c.num_heads} cannot be split over {ways}; "
            f"split them {math.gcd(c.num_heads, ways)} ways, or use --model.attention at_once."
        )
    is_tpu = mesh.devices.flat[0].platform == "tpu"
    return "chunked" if c.attention == "flash" and not is_tpu else c.attention


def laid_out(c: TransformerConfig, x: Mask | Diagonals | jax.Array | None) -> Any:
    """Returns a mask or bias as the config's attention reads it; one that is laid out already is left so."""
    return x.dense() if isinstance(x, Mask | Diagonals) and c.attention not in _BLOCKWISE else x


def joined(params: Any, num_heads: int) -> Any:
    """Returns the parameters of an `Attention` to itself with queries, keys and values as one product, head by head.

    Of one token a row the product is the reading of its kernel, and one long read is faster than three short ones.
    What belongs to a head lies together, so that heads are split over devices as before.
    """

    def join(*parts: jax.Array) -> jax.Array:
        # 3 x [..., heads * head_dim] -> [..., heads * 3 * head_dim]
        by_head = [part.reshape(*part.shape[:-1], num_heads, -1) for part in parts]
        return jnp.stack(by_head, axis=-2).reshape(*parts[0].shape[:-1], -1)

    return {
        "out": params["out"],
        JOINED: jax.tree.map(join, *(params[name] for name in ("query", "key", "value"))),
    }


class Attention(nn.Module):
    """Multi-head attention, its logits scaled by 1/sqrt(head_dim) or, as in T5, only at the start of training."""

    config: TransformerConfig
    rules: AxisRules

    def setup(self) -> None:
        c = self.config
        width = c.num_heads * c.head_dim
        query_init = nn.initializers.variance_scaling(1.0 / c.head_dim, "fan_in", "normal")
        if c.scales_attention:
            query_init = fan_in_normal
        self.query = project(c, width, ("embed", "heads"), query_init, remat_name="qkv")
        self.key = project(c, width, ("embed", "heads"), fan_in_normal, remat_name="qkv")
        self.value = project(c, width, ("embed", "heads"), fan_in_normal, remat_name="qkv")
        self.out = project(c, c.embed_dim, ("heads", "embed"), fan_in_normal, remat_name="attention_out")

    def _split_heads(self, x: jax.Array) -> jax.Array:
        # [batch, length, heads * head_dim] -> [batch, length, heads, head_dim]
        return x.reshape(*x.shape[:-1], self.config.num_heads, self.config.head_dim)

    def key_value(self, x: jax.Array) -> KeyValue:
        """Returns the keys and values of x [batch, key, embed]."""
        return KeyValue(self._split_heads(self.key(x)), self._split_heads(self.value(x)))

    def __call__(
        self,
        x: jax.Array,
        key_value: KeyValue,
        bias: Diagonals | jax.Array | None,
        mask: Mask | jax.Array,
        dropout_key: jax.Array | None,
    ) -> jax.Array:
        """Returns [batch, query, embed].

        Args:
          x: [batch, query, embed].
          key_value: what is attended to.
          bias: added to the logits; laid out [1, heads, query, key] float32; or None.
          mask: laid out bool, broadcastable to [batch, heads, query, key]; False positions are not attended to.
          dropout_key: None for no dropout of the attention weights.
        """
        queries = self.queries(x)
        if self.is_initializing():  # there are parameters to draw, and rows too few for a mesh
            return self._join(queries)
        rate = self.config.dropout_at("attention")
        return self._join(self._attend()(queries, key_value, bias, mask, rate, dropout_key))

    def _attend(self) -> Callable[..., jax.Array]:
        c = self.config
        if c.attention in _BLOCKWISE:
            return functools.partial(attend_in_blocks, _BLOCKWISE[c.attention], rules=self.rules)
        return functools.partial(attend_at_once, shares_dropout=c.shares_dropout)

    def to_cache(
        self, queries: jax.Array, cache: Cached, bias: jax.Array | None, mask: jax.Array
    ) -> jax.Array:
        """Returns [batch, query, embed], as `__call__` but of queries, and of keys and values in a cache."""
        return self._join(attend_to_cache(queries, cache, bias, mask))

    def queries(self, x: jax.Array) -> jax.Array:
        """Returns the queries of x [batch, query, embed]."""
        return self._scaled(self._split_heads(self.query(x)))

    def own(self, x: jax.Array) -> tuple[jax.Array, KeyValue]:
        """Returns the queries, keys and values of x [batch, length, embed], by one product where `joined` has made it one."""
        if not self.has_variable("params", JOINED):
            return self.queries(x), self.key_value(x)
        params = self.get_variable("params", JOINED)
        y = linear(x, params["kernel"].astype(self.config.compute_dtype))
        if "bias" in params:
            y = y + params["bias"].astype(y.dtype)
        y = y.reshape(*y.shape[:-1], self.config.num_heads, 3, self.config.head_dim)
        return self._scaled(y[..., 0, :]), KeyValue(y[..., 1, :], y[..., 2, :])

    def _scaled(self, query: jax.Array) -> jax.Array:
        return query * self.config.head_dim**-0.5 if self.config.scales_attention else query

    def _join(self, attended: jax.Array) -> jax.Array:
        # [batch, query, heads, head_dim] -> [batch, query, embed]
        return self.out(attended.reshape(*attended.shape[:-2], -1))
