"""One train step: what it may not depend on, and what each metric says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from t5like.losses import summed_losses, token_cross_entropy
from t5like.models.config import TransformerConfig
from t5like.models.layers import dropout
from t5like.models.transformer import Transformer
from t5like.train_step import TrainState, train_step

VOCAB = 40
ROWS = ((10, 8), (4, 5), (9, 7), (0, 0), (3, 2), (7, 1), (1, 1), (0, 0))
"""Real inputs and targets; of four microbatches, rows i and i + 4, the last counts for nothing at all."""
NUM_TARGETS = 24
NUM_INPUTS = 34
LOSS = functools.partial(token_cross_entropy, z_loss=1e-2, label_smoothing=0.1)


def learning_rate(step):
    return 0.5 / (1.0 + step)


def recorder():
    """Returns gradient descent whose state is the step count and the gradients it was last given."""

    def init(params):
        return jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params)

    def update(gradients, state, params):
        count, _ = state
        return jax.tree.map(lambda g: -learning_rate(count) * g, gradients), (count + 1, gradients)

    return optax.GradientTransformation(init, update)


def bigram_loss(params, batch, key):
    """Predicts each target from the token before it: all that most laws of a step need."""
    x = params["embedding"][batch["decoder_input_tokens"]]
    logits = dropout(x, 0.3, key) @ params["kernel"]
    return {"token": LOSS(logits, batch["decoder_target_tokens"], batch["decoder_loss_weights"])}


def bigram_loss_without_dropout(params, batch, key):
    return bigram_loss(params, batch, None)


def bigram_params():
    rng = np.random.default_rng(0)
    shapes = {"embedding": (VOCAB, 6), "kernel": (6, VOCAB)}
    return {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}


TRANSFORMER = Transformer(
    TransformerConfig(
        num_embeddings=VOCAB,
        embed_dim=16,
        num_heads=2,
        head_dim=8,
        mlp_dim=24,
        num_encoder_layers=1,
        num_decoder_layers=1,
        scans_layers=False,
    )
)


def transformer_loss(params, batch, key):
    logits = TRANSFORMER.apply({"params": params}, batch, method=Transformer.predictions)
    return summed_losses(logits, batch, z_loss=1e-2, label_smoothing=0.1)


def transformer_params(batch):
    abstract = nn.unbox(jax.eval_shape(TRANSFORMER.init, jax.random.key(0), batch)["params"])
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.4, x.shape), jnp.float32), abstract)


def first_state(params, step=0):
    return TrainState(jnp.asarray(step, jnp.int32), params, recorder().init(params))


@functools.cache
def compiled_step(loss_function=bigram_loss_without_dropout, **kwargs):
    step = functools.partial(
        train_step, loss_function=loss_function, optimizer=recorder(), learning_rate=learning_rate
    )
    return jax.jit(functools.partial(step, **{"seed": 0, **kwargs}))


def gradients_of(state):
    return state.optimizer[1]


def assert_close(tree, expected, rtol=1e-6):
    """Each array within `rtol` of the largest entry of the expected one."""
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(
            x, y, rtol=0, atol=rtol * max(np.abs(y).max(), 1e-30), err_msg=jax.tree_util.keystr(path)
        )


@pytest.fixture(scope="module")
def batch(random_batch):
    return random_batch(ROWS, vocab=VOCAB)


@pytest.mark.parametrize(
    ("loss_function", "loss_normalizing_factor", "num_microbatches"),
    [
        (bigram_loss_without_dropout, None, 2),
        (bigram_loss_without_dropout, None, 4),
        (bigram_loss_without_dropout, 7.0, 4),
        (transformer_loss, None, 4),
    ],
)
def test_microbatches_give_the_update_of_the_whole_batch(
    loss_function, loss_normalizing_factor, num_microbatches, batch
):
    counts = [batch["decoder_loss_weights"][i::num_microbatches].sum() for i in range(num_microbatches)]
    assert len(set(counts)) == num_microbatches, "a mean of means would pass"
    params = bigram_params() if loss_function is bigram_loss_without_dropout else transformer_params(batch)
    step = functools.partial(compiled_step, loss_function, loss_normalizing_factor=loss_normalizing_factor)
    expected, expected_metrics = step()(first_state(params), batch)
    state, metrics = step(num_microbatches=num_microbatches)(first_state(params), batch)
    assert_close(gradients_of(state), gradients_of(expected), 1e-5)
    assert_close(state.params, expected.params, 1e-6)
    assert metrics.keys() == expected_metrics.keys()
    for name, value in metrics.items():
        np.testing.assert_allclose(value, expected_metrics[name], rtol=1e-5, err_msg=name)


def test_gradients_are_those_of_the_summed_loss_over_the_target_tokens(batch):
    params = bigram_params()
    state, metrics = compiled_step()(first_state(params), batch)
    total = jax.jit(jax.grad(lambda p: bigram_loss_without_dropout(p, batch, None)["token"].total))(params)
    assert_close(gradients_of(state), jax.tree.map(lambda g: g / NUM_TARGETS, total))
    updated = jax.tree.map(lambda p, g: p - learning_rate(0) * g / NUM_TARGETS, params, total)
    assert_close(state.params, updated)
    norm = np.sqrt(sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(total))) / NUM_TARGETS
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-5)
    np.testing.assert_allclose(metrics["update_norm"], 0.5 * norm, rtol=1e-5)


def test_normalizing_factor_divides_loss_and_gradients_and_nothing_else(batch):
    params = bigram_params()
    state, metrics = compiled_step()(first_state(params), batch)
    factored, factored_metrics = compiled_step(loss_normalizing_factor=96.0)(first_state(params), batch)
    share = NUM_TARGETS / 96.0
    assert_close(gradients_of(factored), jax.tree.map(lambda g: g * share, gradients_of(state)))
    for name in metrics:
        scale = share if name in ("loss", "gradient_norm", "update_norm") else 1.0
        np.testing.assert_allclose(factored_metrics[name], metrics[name] * scale, rtol=1e-6, err_msg=name)


def test_metrics_say_what_they_are_called(batch):
    params = bigram_params()
    _, metrics = compiled_step()(first_state(params, step=3), batch)
    loss = bigram_loss_without_dropout(params, batch, None)["token"]
    expected = {
        "loss": (loss.cross_entropy + loss.z_loss) / NUM_TARGETS,
        "nats_per_token": loss.cross_entropy / NUM_TARGETS,
        "z_loss": loss.z_loss / NUM_TARGETS,
        "token_accuracy": loss.num_correct / NUM_TARGETS,
        "learning_rate": learning_rate(3),
        "target_tokens": NUM_TARGETS,
        "real_tokens": NUM_TARGETS + NUM_INPUTS,
        "encoder_tokens": NUM_INPUTS,
        "decoder_tokens": NUM_TARGETS,
    }
    assert loss.z_loss > 0
    assert loss.num_correct > 0
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-6, err_msg=name)
    assert metrics.keys() - expected.keys() == {"gradient_norm", "update_norm"}
    for name, value in metrics.items():
        assert value.shape == (), name
        assert value.dtype == jnp.float32, name


def test_steps_are_counted_and_follow_the_schedule(batch):
    step, state = compiled_step(), first_state(bigram_params())
    for i in range(4):
        assert state.step == i
        state, metrics = step(state, batch)
        np.testing.assert_allclose(metrics["learning_rate"], learning_rate(i), rtol=1e-6)
        np.testing.assert_allclose(
            metrics["update_norm"], learning_rate(i) * metrics["gradient_norm"], rtol=1e-5
        )
    assert state.step == 4
    assert state.step.dtype == jnp.int32


@pytest.mark.parametrize("num_microbatches", [1, 2])
def test_a_step_is_a_function_of_state_batch_and_seed_alone(num_microbatches, batch):
    step = compiled_step(bigram_loss, num_microbatches=num_microbatches)
    state, metrics = step(first_state(bigram_params()), batch)
    again, metrics_again = step(first_state(bigram_params()), batch)
    for x, y in zip(jax.tree.leaves((state, metrics)), jax.tree.leaves((again, metrics_again)), strict=True):
        np.testing.assert_array_equal(x, y)
    _, later = step(first_state(bigram_params(), step=1), batch)
    reseeded = compiled_step(bigram_loss, num_microbatches=num_microbatches, seed=1)
    _, other = reseeded(first_state(bigram_params()), batch)
    assert len({float(m["loss"]) for m in (metrics, later, other)}) == 3, "dropout draws the same again"


def test_each_microbatch_draws_its_own_dropout(random_batch):
    """Both halves of the batch hold the same row, so equal draws would give the update of one of them."""
    row = random_batch([(5, 8)], vocab=VOCAB)
    twice = {name: np.concatenate([array, array]) for name, array in row.items()}
    params = bigram_params()
    state, _ = compiled_step(bigram_loss, num_microbatches=2)(first_state(params), twice)

    @jax.jit
    def gradient_with(i):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), i)
        return jax.grad(lambda p: bigram_loss(p, row, key)["token"].total / 8)(params)["kernel"]

    first, second = gradient_with(0), gradient_with(1)
    assert np.abs(first - second).max() > 1e-3
    assert_close(gradients_of(state)["kernel"], (first + second) / 2, 1e-5)


def test_nothing_depends_on_padding(batch):
    other = {name: array.copy() for name, array in batch.items()}
    padding = batch["decoder_segment_ids"] == 0
    other["decoder_input_tokens"][padding] = 7
    other["decoder_target_tokens"][padding] = 9
    other["encoder_input_tokens"][batch["encoder_segment_ids"] == 0] = 5
    step, params = compiled_step(transformer_loss, loss_normalizing_factor=None), transformer_params(batch)
    for x, y in zip(
        jax.tree.leaves(step(first_state(params), batch)),
        jax.tree.leaves(step(first_state(params), other)),
        strict=True,
    ):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("num_microbatches", [1, 2])
def test_a_batch_without_a_single_target_changes_nothing(num_microbatches, random_batch):
    empty = random_batch([(0, 0), (0, 0)], vocab=VOCAB)
    params = bigram_params()
    state, metrics = compiled_step(num_microbatches=num_microbatches)(first_state(params), empty)
    assert_close(state.params, params, 0)
    assert all(np.isfinite(value) for value in metrics.values())
    assert metrics["target_tokens"] == 0
    assert metrics["loss"] == 0


def test_training_on_one_batch_learns_it(batch):
    step = compiled_step(transformer_loss, loss_normalizing_factor=None)
    state = first_state(transformer_params(batch))
    losses = []
    for _ in range(40):
        state, metrics = step(state, batch)
        losses.append(float(metrics["nats_per_token"]))
    assert losses[-1] < 0.7 * losses[0]


# --- Encoders, and two losses at once -----------------------------------------------------------------------

BERT = Transformer(
    TransformerConfig(
        num_embeddings=VOCAB,
        embed_dim=16,
        num_heads=2,
        head_dim=8,
        mlp_dim=24,
        num_encoder_layers=1,
        num_decoder_layers=0,
        num_token_types=2,
        predicts_next_sentence=True,
        scans_layers=False,
    )
)
NUM_MASKED = (5, 0, 3, 0, 2, 0, 2, 0)
NUM_REAL = (10, 6, 9, 0, 4, 0, 7, 2)
"""Rows 3 and 5 are padding alone, so that microbatches differ in pairs as in masked tokens."""


def pairs():
    """Returns rows of pairs of texts with masked tokens, some with none, some empty."""
    rng = np.random.default_rng(0)
    shape = (len(NUM_REAL), 10)
    is_real = np.arange(10) < np.array(NUM_REAL)[:, None]
    return {
        "encoder_input_tokens": rng.integers(2, VOCAB, shape).astype(np.int32),
        "encoder_token_types": np.tile(np.arange(10) // 5, (len(NUM_REAL), 1)).astype(np.int32),
        "encoder_segment_ids": is_real.astype(np.int32),
        "encoder_target_tokens": rng.integers(2, VOCAB, shape).astype(np.int32),
        "encoder_loss_weights": (is_real & (np.arange(10) < np.array(NUM_MASKED)[:, None])).astype(
            np.float32
        ),
        "next_sentence_labels": rng.integers(0, 2, len(NUM_REAL)).astype(np.int32),
    }


def bert_loss(params, batch, key):
    logits = BERT.apply({"params": params}, batch, method=Transformer.predictions)
    return summed_losses(logits, batch, z_loss=1e-2, label_smoothing=0.1)


def bert_params():
    abstract = nn.unbox(jax.eval_shape(BERT.init, jax.random.key(0), pairs())["params"])
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.4, x.shape), jnp.float32), abstract)


def mean_bert_loss(params, loss_normalizing_factor=None):
    """Returns the mean over masked tokens and that over pairs, added, as the formulas say it."""
    batch = pairs()
    logits = BERT.apply({"params": params}, batch, method=Transformer.predictions)
    tokens = LOSS(logits["token"], batch["encoder_target_tokens"], batch["encoder_loss_weights"])
    is_pair = np.array(NUM_REAL) > 0
    log_p = jax.nn.log_softmax(logits["next_sentence"])[np.arange(8), batch["next_sentence_labels"]]
    factor = loss_normalizing_factor or tokens.weight
    return tokens.total / factor - jnp.sum(log_p * is_pair) / is_pair.sum()


@pytest.mark.parametrize("loss_normalizing_factor", [None, 50.0])
@pytest.mark.parametrize("num_microbatches", [1, 2, 4, 8])
def test_two_losses_are_the_sum_of_their_means_in_any_number_of_microbatches(
    num_microbatches, loss_normalizing_factor
):
    batch, params = pairs(), bert_params()
    if num_microbatches == 4:
        of_tokens = [batch["encoder_loss_weights"][i::4].sum() for i in range(4)]
        of_pairs = [(batch["encoder_segment_ids"][i::4, 0] > 0).sum() for i in range(4)]
        assert len(set(of_tokens)) > 1
        assert len(set(of_pairs)) > 1, "a mean of means would pass"
    step = compiled_step(
        bert_loss, num_microbatches=num_microbatches, loss_normalizing_factor=loss_normalizing_factor
    )
    state, metrics = step(first_state(params), batch)
    mean = functools.partial(mean_bert_loss, loss_normalizing_factor=loss_normalizing_factor)
    loss, gradients = jax.jit(jax.value_and_grad(mean))(params)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    assert_close(gradients_of(state), gradients, 1e-5)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients_of(state)):
        assert np.abs(gradient).max() > 0, path


def test_the_next_sentence_has_metrics_of_its_own():
    batch, params = pairs(), bert_params()
    _, metrics = compiled_step(bert_loss)(first_state(params), batch)
    logits = BERT.apply({"params": params}, batch, method=Transformer.predictions)["next_sentence"]
    is_pair = np.array(NUM_REAL) > 0
    is_right = np.argmax(logits, -1) == batch["next_sentence_labels"]
    assert 0 < is_right[is_pair].mean() < 1
    np.testing.assert_allclose(metrics["next_sentence_accuracy"], is_right[is_pair].mean(), rtol=1e-6)
    log_p = np.asarray(jax.nn.log_softmax(logits))[np.arange(8), batch["next_sentence_labels"]]
    np.testing.assert_allclose(metrics["next_sentence_nats"], -log_p[is_pair].mean(), rtol=1e-5)
    assert metrics["target_tokens"] == sum(NUM_MASKED)


def test_an_encoder_alone_learns_what_is_under_its_masks():
    step = compiled_step(bert_loss)
    state, losses = first_state(bert_params()), []
    for _ in range(40):
        state, metrics = step(state, pairs())
        losses.append((float(metrics["nats_per_token"]), float(metrics["next_sentence_nats"])))
    assert losses[-1][0] < 0.7 * losses[0][0]
    assert losses[-1][1] < 0.7 * losses[0][1]
