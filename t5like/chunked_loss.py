"""Cross-entropy over a vocabulary whose logits are never all there at once.

Logits of a whole batch, [batch, length, vocab] float32, are often the largest array of a train step. Here the tokens
are cut into chunks, and each chunk's gradients are computed as soon as its logits are there: the forward pass leaves
those of the hidden states and of the head behind, the backward pass only scales them. No product is computed twice.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, PartitionSpec

from t5like.losses import LossSums, Targets, cross_entropy_of, smoothed
from t5like.sharding import AxisRules


class VocabularyHead(NamedTuple):
    """What makes logits of hidden states: their product with the kernel, plus the bias."""

    kernel: jax.Array  # [embed, vocab], in the dtype of the product
    bias: jax.Array | None  # [vocab] float32


class _Settings(NamedTuple):
    """What the loss is, and how it is computed; hashable."""

    num_chunks: int
    z_loss: float
    label_smoothing: float
    rules: AxisRules


class _Axes(NamedTuple):
    """The mesh axes, possibly none, over which the arrays of one device have to be summed."""

    tokens: tuple[str, ...] = ()
    """Those that split batch and length: gradients of the head are parts."""
    vocab: tuple[str, ...] = ()
    """Those that split the vocabulary: sums over it and gradients of the hidden states are parts."""
    embed: tuple[str, ...] = ()
    """Those of `tokens` that split the parameter behind the kernel: each keeps its part of the gradient alone."""


class _Gradients(NamedTuple):
    """Of the sum of cross-entropy and z-loss."""

    hidden: jax.Array
    head: VocabularyHead


def chunked_cross_entropy(
    hidden: jax.Array,
    head: VocabularyHead,
    targets: Targets,
    *,
    num_chunks: int,
    rules: AxisRules,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
) -> LossSums:
    """Returns what `token_cross_entropy` does of the head's logits, holding those of one chunk at a time.

    Gradients are those of `LossSums.total`: they are NaN where cross-entropy and z-loss are weighed differently.

    On several devices each works on its own tokens. The head is gathered once before the first chunk, where its
    parameter is split, and the gradient reduced once after the last.

    Args:
      hidden: [batch, length, embed].
      num_chunks: of the tokens of one device; the last is filled up where it does not divide them.
    """
    settings = _Settings(num_chunks, z_loss, label_smoothing, rules)
    return _cross_entropy(settings, hidden, head, targets)


def chunked_row_losses(
    hidden: jax.Array, head: VocabularyHead, targets: Targets, *, num_chunks: int, rules: AxisRules
) -> LossSums:
    """Returns the sums of each row apart, [batch] float32, without z-loss and smoothing; for evaluation.

    Args: as `chunked_cross_entropy`.
    """
    settings = _Settings(num_chunks, 0.0, 0.0, rules)
    by_token, _ = _on_each_device(settings, hidden, head, targets, has_gradients=False)
    return jax.tree.map(lambda x: jnp.sum(x, axis=1), by_token)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _cross_entropy(
    settings: _Settings, hidden: jax.Array, head: VocabularyHead, targets: Targets
) -> LossSums:
    by_token, _ = _on_each_device(settings, hidden, head, targets, has_gradients=False)
    return jax.tree.map(jnp.sum, by_token)


def _forward(
    settings: _Settings, hidden: jax.Array, head: VocabularyHead, targets: Targets
) -> tuple[LossSums, Any]:
    by_token, gradients = _on_each_device(settings, hidden, head, targets, has_gradients=True)
    return jax.tree.map(jnp.sum, by_token), gradients


def _backward(settings: _Settings, gradients: _Gradients, of_sums: LossSums) -> tuple[Any, ...]:
    scale = of_sums.cross_entropy
    if settings.z_loss:
        scale = jnp.where(scale == of_sums.z_loss, scale, jnp.nan)
    scaled = jax.tree.map(lambda x: (x * scale).astype(x.dtype), gradients)
    return scaled.hidden, scaled.head, None


_cross_entropy.defvjp(_forward, _backward)


def _on_each_device(
    settings: _Settings, hidden: jax.Array, head: VocabularyHead, targets: Targets, *, has_gradients: bool
) -> tuple[LossSums, _Gradients | None]:
    """Returns the losses of each token, [batch, length], and the gradients if so told; split as the rules say."""
    run = functools.partial(_in_chunks, settings, has_gradients=has_gradients)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return run(_Axes(), hidden, head, targets)
    rules = settings.rules
    of_tokens: Any = rules.spec(("batch", "length"))
    of_vocab: Any = rules.spec(("vocab",))
    of_embed: Any = rules.spec(("fsdp_embed",))
    axes = _Axes(*(_splitting(spec, mesh) for spec in (of_tokens, of_vocab, of_embed)))
    if not set(axes.embed) <= set(axes.tokens):
        axes, of_embed = axes._replace(embed=()), PartitionSpec(None)
    of_bias = None if head.bias is None else of_vocab
    whole_rows: Any = PartitionSpec(None, *of_vocab)
    own_rows: Any = PartitionSpec(*of_embed, *of_vocab)
    of_gradients = _Gradients(of_tokens, VocabularyHead(own_rows, of_bias)) if has_gradients else None
    # By hand, and not by constraints: a compiler that sees a sum over devices in a loop puts it into the loop.
    return jax.shard_map(
        functools.partial(run, axes),
        in_specs=(of_tokens, VocabularyHead(whole_rows, of_bias), Targets(of_tokens, of_tokens)),
        out_specs=(of_tokens, of_gradients),
        check_vma=False,
    )(hidden, head, targets)


def _splitting(spec: PartitionSpec, mesh: AbstractMesh) -> tuple[str, ...]:
    """Returns the mesh axes by which a partition really splits an array.

    (("data", "fsdp"), None) on a mesh of data=1, fsdp=4  ->  ("fsdp",)
    """
    axes = [() if axis is None else (axis,) if isinstance(axis, str) else tuple(axis) for axis in spec]
    return tuple(name for names in axes for name in names if mesh.shape[name] > 1)


def _in_chunks(
    settings: _Settings,
    axes: _Axes,
    hidden: jax.Array,
    head: VocabularyHead,
    targets: Targets,
    *,
    has_gradients: bool,
) -> tuple[LossSums, _Gradients | None]:
    """Returns the losses of each token, [batch, length], and the gradients, from the arrays of one device."""
    tokens = jax.tree.map(
        lambda x: _cut(x, settings.num_chunks),
        (hidden.reshape(-1, hidden.shape[-1]), *map(jnp.ravel, targets)),
    )
    no_gradient = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), head) if has_gradients else None

    def add_chunk(of_head: Any, chunk: tuple[jax.Array, ...]) -> tuple[Any, Any]:
        losses, of_hidden, more = _one_chunk(settings, axes, head, *chunk, has_gradients=has_gradients)
        return jax.tree.map(jnp.add, of_head, more), (losses, of_hidden)

    def joined(x: jax.Array) -> jax.Array:  # [chunks, tokens of a chunk, ...] -> [batch, length, ...]
        num_tokens = hidden.shape[0] * hidden.shape[1]
        return x.reshape(-1, *x.shape[2:])[:num_tokens].reshape(*hidden.shape[:2], *x.shape[2:])

    of_head, by_chunk = jax.lax.scan(add_chunk, no_gradient, tokens)
    losses, of_hidden = jax.tree.map(joined, by_chunk)
    if of_head is None:
        return losses, None
    of_hidden = _over(jax.lax.psum, axes.vocab, of_hidden)
    of_kernel, of_bias = of_head
    if axes.embed:
        of_kernel = jax.lax.psum_scatter(of_kernel, axes.embed, scatter_dimension=0, tiled=True)
    of_kernel = _over(jax.lax.psum, tuple(a for a in axes.tokens if a not in axes.embed), of_kernel)
    of_bias = _over(jax.lax.psum, axes.tokens, of_bias)
    return losses, _Gradients(of_hidden, VocabularyHead(of_kernel.astype(head.kernel.dtype), of_bias))


def _over(reduce: Callable[..., Any], axes: tuple[str, ...], x: Any) -> Any:
    """Returns x, an array or a tree of them, reduced over mesh axes; x itself where there are none."""
    return reduce(x, axes) if axes else x


def _cut(x: jax.Array, num_chunks: int) -> jax.Array:
    """Returns x [tokens, ...] as [chunks, tokens of a chunk, ...], filled up with zeros, and so with weight 0."""
    padding = -len(x) % num_chunks
    return jnp.pad(x, ((0, padding),) + ((0, 0),) * (x.ndim - 1)).reshape(num_chunks, -1, *x.shape[1:])


def _one_chunk(
    settings: _Settings,
    axes: _Axes,
    head: VocabularyHead,
    x: jax.Array,
    ids: jax.Array,
    weights: jax.Array,
    *,
    has_gradients: bool,
) -> tuple[LossSums, jax.Array | None, VocabularyHead | None]:
    """Returns the losses of the tokens of one chunk, and the gradients of x and of the head; None if not asked for.

    Args:
      x: [tokens, embed].
      ids, weights: [tokens].
    """
    kernel, bias = head
    logits = jnp.dot(x, kernel, preferred_element_type=jnp.float32)  # [tokens, embed] -> [tokens, vocab here]
    logits = logits if bias is None else logits + bias
    vocab_here = logits.shape[1]
    vocab = vocab_here * math.prod(jax.lax.axis_size(name) for name in axes.vocab)
    first = vocab_here * jax.lax.axis_index(axes.vocab) if axes.vocab else 0
    is_target = first + jnp.arange(vocab_here) == ids[:, None]

    largest = _over(jax.lax.pmax, axes.vocab, jnp.max(logits, axis=1))
    of_exp = jnp.sum(jnp.exp(logits - largest[:, None]), axis=1)
    of_target = jnp.sum(jnp.where(is_target, logits, 0.0), axis=1)
    of_all = jnp.sum(logits, axis=1) if settings.label_smoothing else None
    parts = of_exp, of_target, of_all
    sum_of_exp, target_logit, sum_of_logits = _over(jax.lax.psum, axes.vocab, parts)
    log_z = largest + jnp.log(sum_of_exp)
    cross_entropy = cross_entropy_of(log_z, target_logit, sum_of_logits, vocab, settings.label_smoothing)
    losses = LossSums(
        cross_entropy=cross_entropy * weights,
        z_loss=settings.z_loss * jnp.square(log_z) * weights,
        num_correct=(target_logit >= largest) * weights,
        weight=weights,
    )
    if not has_gradients:
        return losses, None, None
    on, off = smoothed(settings.label_smoothing, vocab)
    softmax = jnp.exp(logits - log_z[:, None]) * (1.0 + 2.0 * settings.z_loss * log_z)[:, None]
    of_logits = (softmax - jnp.where(is_target, on, off)) * weights[:, None]
    of_bias = None if bias is None else jnp.sum(of_logits, axis=0)
    of_logits = of_logits.astype(kernel.dtype)
    of_x = jnp.dot(of_logits, kernel.T, preferred_element_type=jnp.float32).astype(x.dtype)
    of_kernel = jnp.dot(x.T, of_logits, preferred_element_type=jnp.float32)
    return losses, of_x, VocabularyHead(of_kernel, of_bias)
