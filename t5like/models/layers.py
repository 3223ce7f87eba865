"""Dense, norm, embedding, MLP and dropout: the parts of a layer that know nothing of attention.

Parameters are declared with the logical names of their axes; `t5like.sharding` maps those to the mesh.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from t5like.models.config import DropoutSpot, TransformerConfig
from t5like.sharding import AxisRules

# Beside the table in parameters for decoding, where products read it better so: [embed, vocab].
TURNED_TABLE = "turned_embedding"

Initializer = Callable[..., jax.Array]

# T5's scales (t5x layers): plain normal for projections of attention, truncated normal for the MLP and the head.
fan_in_normal = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
fan_in_truncated_normal = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=True),
    "gelu_exact": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "linear": lambda x: x,
}


def dropout(
    x: jax.Array, rate: float, key: jax.Array | None, *, broadcast_axes: tuple[int, ...] = ()
) -> jax.Array:
    """Returns x with a share `rate` of it zeroed and the rest scaled up; x itself where key is None.

    Args:
      x: any shape and float dtype.
      broadcast_axes: axes along which one draw serves all positions, as T5 does along length.
    """
    if key is None or rate == 0.0:
        return x
    axes = {axis % x.ndim for axis in broadcast_axes}
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    return x * scales(key, 1.0 - rate, shape).astype(x.dtype)


def scales(key: jax.Array, share: float, shape: tuple[int, ...]) -> jax.Array:
    """Returns float32 of a shape, each with the given probability its inverse, and else 0.

    On a CPU, where random bits are a tenth of a step of BERT, sixteen of them decide; a TPU would write down what it can
    draw as it goes, were two positions to share a number.
    """

    def by_sixteen_bits(key: jax.Array) -> jax.Array:
        return scales_by_sixteen_bits(key, share, shape)

    def plainly(key: jax.Array) -> jax.Array:
        return jnp.where(jax.random.bernoulli(key, share, shape), 1.0 / share, 0.0)

    if len(shape) < 2 or shape[-2] == 1:
        return plainly(key)
    return jax.lax.platform_dependent(key, cpu=by_sixteen_bits, default=plainly)


def scales_by_sixteen_bits(key: jax.Array, share: float, shape: tuple[int, ...]) -> jax.Array:
    """Returns what `scales` says, of a share within 2**-17 of the one that is given, and exactly its inverse.

    A number that is drawn does for two positions, of the first and of the second half of the last axis but one, which no
    mesh splits.
    """
    limit = min(max(round(share * 2**16), 1), 2**16 - 1)
    length = shape[-2]
    bits = jax.random.bits(key, (*shape[:-2], -(-length // 2), shape[-1]))
    halves = jnp.concatenate([bits & 0xFFFF, bits >> 16], axis=-2)[..., :length, :]
    return jnp.where(halves < np.uint32(limit), 2.0**16 / limit, 0.0)


def drop(c: TransformerConfig, spot: DropoutSpot, x: jax.Array, key: jax.Array | None) -> jax.Array:
    """Returns x [batch, length, ...] after the dropout that the config has at this spot."""
    return dropout(x, c.dropout_at(spot), key, broadcast_axes=(-2,) if c.shares_dropout else ())


def split_key(key: jax.Array | None, num: int) -> list[jax.Array | None]:
    """Returns `num` independent keys, or as many Nones where there is no key (no dropout)."""
    return [None] * num if key is None else list(jax.random.split(key, num))


def linear(x: jax.Array, kernel: jax.Array, dtype: Any = None) -> jax.Array:
    """Returns the product of x [batch, length, inputs] and kernel [inputs, outputs], in x's dtype unless given.

    On one device as a product of two matrices: the gradient of the kernel is then one too, where XLA's CPU compiler
    would first write out the transpose of x, at the cost of a tenth of a T5-small step. On several the axes stay
    apart, since one made of two cannot be split like either.
    """
    is_split = jax.sharding.get_abstract_mesh().size > 1
    rows = x if is_split else x.reshape(-1, x.shape[-1])
    return jnp.dot(rows, kernel, preferred_element_type=dtype).reshape(*x.shape[:-1], kernel.shape[-1])


class Dense(nn.Module):
    """A linear map of the last axis, with a bias if so told; kernel [inputs, outputs] and bias [outputs] float32."""

    num_outputs: int
    axes: tuple[str, str]
    kernel_init: Initializer
    dtype: str
    has_bias: bool = False
    output_dtype: str | None = None
    """None: that of x."""
    remat_name: str | None = None
    """One of REMAT_NAMES, by which a remat policy knows the result."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1], self.num_outputs)
        kernel = self.param(
            "kernel", nn.with_logical_partitioning(self.kernel_init, self.axes), shape, jnp.float32
        )
        y = linear(x, kernel.astype(self.dtype), self.output_dtype)
        if self.has_bias:
            # A bias as long as the residual stream is whole everywhere, like the norms; it is too short to split.
            axis = "norm" if self.axes[1] == "embed" else self.axes[1]
            init = nn.with_logical_partitioning(nn.initializers.zeros_init(), (axis,))
            y = y + self.param("bias", init, (self.num_outputs,), jnp.float32).astype(y.dtype)
        return y if self.remat_name is None else checkpoint_name(y, self.remat_name)


def cast_kernels(params: Any, dtype: str) -> Any:
    """Returns the parameters with all kernels in the dtype of their products, as each `Dense` would cast its own.

    Tables, biases and norms stay float32: their gradients are sums over many tokens.
    """

    def cast(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        return leaf.astype(dtype) if path[-1].key == "kernel" else leaf

    return jax.tree_util.tree_map_with_path(cast, params)


def project(
    c: TransformerConfig,
    num_outputs: int,
    axes: tuple[str, str],
    t5_init: Initializer,
    *,
    remat_name: str,
    name: str | None = None,
) -> Dense:
    """Returns a projection within a layer: with a bias where the config says so, drawn by its rule or by T5's."""
    init = t5_init if c.init_stddev is None else nn.initializers.normal(c.init_stddev)
    return Dense(num_outputs, axes, init, c.compute_dtype, c.has_biases, remat_name=remat_name, name=name)


class Norm(nn.Module):
    """Root-mean-square norm with a scale, or layer norm with a scale and a bias, computed in float32.

    Source: Zhang and Sennrich 2019; Ba, Kiros and Hinton 2016.
    """

    config: TransformerConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def vector(name: str, init: Initializer) -> jax.Array:
            return self.param(
                name, nn.with_logical_partitioning(init, ("norm",)), (x.shape[-1],), jnp.float32
            )

        y = x.astype(jnp.float32)
        if self.config.norm == "layer":
            y = y - jnp.mean(y, axis=-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.config.norm_epsilon)
        y = y * vector("scale", nn.initializers.ones_init())
        if self.config.norm == "layer":
            y = y + vector("bias", nn.initializers.zeros_init())
        return y.astype(x.dtype)


class Embedding(nn.Module):
    """The token table [vocab, embed] float32, read by rows going in and by columns as a tied head."""

    config: TransformerConfig
    rules: AxisRules

    def setup(self) -> None:
        c = self.config
        assert c.num_embeddings is not None, "resolve num_embeddings from the vocabulary first"
        init = nn.with_logical_partitioning(nn.initializers.normal(c.init_stddev or 1.0), ("vocab", "embed"))
        self.embedding = self.param("embedding", init, (c.num_embeddings, c.embed_dim), jnp.float32)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        # [batch, length] -> [batch, length, embed]
        # Looked up in whole rows: from rows in parts, activations in parts would have to be put together.
        table = self.rules.constrain(self.embedding, "vocab", "embed")
        x = jnp.take(table, tokens, axis=0).astype(self.config.compute_dtype)
        return x * self.config.embed_dim**0.5 if self.config.scales_embeddings else x

    def attend(self, x: jax.Array) -> jax.Array:
        """Returns logits [batch, length, vocab] in float32, whatever the dtype of x."""
        is_turned = self.has_variable("params", TURNED_TABLE)
        table = self.get_variable("params", TURNED_TABLE) if is_turned else self.embedding.T
        return linear(x, table.astype(self.config.compute_dtype), jnp.float32)


class Table(nn.Module):
    """A short table [rows, embed] float32 of learned vectors: one a position, or one a kind of token."""

    config: TransformerConfig
    rules: AxisRules
    num_rows: int
    axis: str

    @nn.compact
    def __call__(self, rows: jax.Array) -> jax.Array:
        # [...] -> [..., embed]
        c = self.config
        init = nn.with_logical_partitioning(
            nn.initializers.normal(c.init_stddev or 0.02), (self.axis, "embed")
        )
        table = self.param("embedding", init, (self.num_rows, c.embed_dim), jnp.float32)
        table = self.rules.constrain(table, self.axis, "embed")  # as in Embedding
        return jnp.take(table, rows, axis=0).astype(c.compute_dtype)


class MLP(nn.Module):
    """One hidden layer, gated where the config names two activations."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, x: jax.Array, dropout_key: jax.Array | None) -> jax.Array:
        c = self.config
        hidden: jax.Array | None = None
        for i, name in enumerate(c.mlp_activations):
            # wi for a plain MLP, wi_0 and wi_1 for a gated one: the names public checkpoints use
            kernel_name = "wi" if len(c.mlp_activations) == 1 else f"wi_{i}"
            axes, init = ("embed", "mlp"), fan_in_truncated_normal
            wi = project(c, c.mlp_dim, axes, init, remat_name="mlp_wi", name=kernel_name)
            branch = ACTIVATIONS[name](wi(x))  # [batch, length, embed] -> [batch, length, mlp]
            hidden = branch if hidden is None else hidden * branch
        assert hidden is not None
        hidden = drop(c, "mlp", hidden, dropout_key)
        axes, init = ("mlp", "embed"), fan_in_truncated_normal
        wo = project(c, c.embed_dim, axes, init, remat_name="mlp_out", name="wo")
        return wo(hidden)  # [batch, length, mlp] -> [batch, length, embed]
