"""Greedy decoding and sampling: each row as if it were alone, drawn as the options say, and no step too many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from t5like.decoding.options import Greedy, Sampling
from t5like.decoding.sampling import decode_rows, draw, nucleus

EOS, MAX_LENGTH = 1, 9
PROMPTS = np.array([3, 141, 59, 26, 535, 897, 932])
SAMPLINGS = [
    Sampling(),
    Sampling(temperature=0.4),
    Sampling(top_k=5),
    Sampling(top_p=0.7),
    Sampling(temperature=1.5, top_k=12, top_p=0.6),
]
ALL_BUT_CERTAIN = [Sampling(top_k=1), Sampling(top_p=1e-6), Sampling(temperature=1e-6)]


run = jax.jit(
    decode_rows, static_argnames=("step", "options", "max_length", "eos_id", "pad_id", "num_tokens")
)


def decode(model, prompts, options, *, step=None, max_length=MAX_LENGTH, **arguments):
    """Returns what the toy says, as NumPy."""
    state, logits = model.start(prompts)
    step = step or model.step
    return np.asarray(run(step, state, logits, options, max_length=max_length, eos_id=EOS, **arguments))


def draw_many(logits, options, *, num_draws=20_000, max_length=1):
    """Returns tokens drawn from the same logits at every position, [num_draws, max_length], each row with its seed."""
    logits = jnp.broadcast_to(logits, (num_draws, len(logits)))
    seeds = jnp.arange(num_draws, dtype=jnp.uint32)
    return np.asarray(run(same_again, logits, logits, options, max_length=max_length, eos_id=-1, seeds=seeds))


def same_again(state, tokens):
    return state, state


def pad(rows, max_length, pad_id=0):
    return np.array([[*row, *[pad_id] * (max_length - len(row))] for row in rows])


def test_the_worked_example():
    choices = np.zeros((3, 5, 8), np.float32)
    for row, tokens in enumerate([[7, 5, 1, 7, 7], [1, 7, 7, 7, 7], [4, 6, 4, 1, 7]]):
        choices[row, range(5), tokens] = 1.0

    def step(position, tokens):
        return jnp.asarray(choices)[:, position], position + 1

    decoded = decode_rows(step, jnp.int32(1), choices[:, 0], Greedy(), max_length=5, eos_id=1)
    np.testing.assert_array_equal(decoded, [[7, 5, 1, 0, 0], [1, 0, 0, 0, 0], [4, 6, 4, 1, 0]])
    assert decoded.dtype == jnp.int32


@pytest.mark.parametrize("pad_id", [0, 5, EOS])
@pytest.mark.parametrize("max_length", [1, 2, MAX_LENGTH])
def test_greedy_says_the_likeliest_token_until_the_end_mark_and_padding_after_it(toy, max_length, pad_id):
    model = toy(12, eos_bias=1.0)
    said = [model.greedy(prompt, max_length) for prompt in PROMPTS]
    if max_length == MAX_LENGTH:
        assert len({len(row) for row in said}) > 3, "rows end together"
    np.testing.assert_array_equal(
        decode(model, PROMPTS, Greedy(), max_length=max_length, pad_id=pad_id), pad(said, max_length, pad_id)
    )


@pytest.mark.parametrize("options", ALL_BUT_CERTAIN, ids=str)
def test_sampling_that_leaves_one_token_is_greedy(toy, options):
    model = toy(300)
    np.testing.assert_array_equal(decode(model, PROMPTS, options), decode(model, PROMPTS, Greedy()))


def allowed(logits, options):
    """Returns the distribution to draw from, in NumPy and by sorting: [vocab] float64."""
    order = np.argsort(-logits, kind="stable")
    kept = np.exp((logits[order] - logits.max()).astype(np.float64) / options.temperature)
    if options.top_k is not None:
        kept[options.top_k :] = 0.0
    kept /= kept.sum()
    if options.top_p is not None:
        kept[np.cumsum(kept) - kept >= options.top_p] = 0.0
        kept /= kept.sum()
    return kept[np.argsort(order)]


@pytest.mark.parametrize("vocab", [7, 300], ids=["one-block", "three-blocks"])
@pytest.mark.parametrize("options", SAMPLINGS, ids=str)
def test_tokens_are_drawn_as_often_as_the_options_say(options, vocab):
    logits = 2.0 * np.random.default_rng(vocab).normal(size=vocab).astype(np.float32)
    drawn = draw_many(logits, options)[:, 0]
    counts = np.bincount(drawn, minlength=vocab)
    expected = len(drawn) * allowed(logits, options)
    assert counts[expected == 0].sum() == 0
    rare = expected < 5  # cells of few expected draws are counted with the fullest
    for cells in (counts, expected):
        cells[np.argmax(expected)] += cells[rare].sum()
    counts, expected = counts[~rare], expected[~rare]
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_each_position_is_drawn_anew():
    drawn = draw_many(np.zeros(4, np.float32), Sampling(), max_length=3)
    counts = np.bincount(drawn @ [16, 4, 1], minlength=64)
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("options", SAMPLINGS, ids=str)
def test_a_row_depends_on_its_prompt_and_seed_and_on_nothing_else(toy, options):
    model = toy(300)
    seeds = np.array([5, 4, 3, 2, 1, 0, 2**32 - 1], np.uint32)
    together = decode(model, PROMPTS, options, seeds=seeds)
    order = np.random.default_rng(0).permutation(len(PROMPTS))
    np.testing.assert_array_equal(decode(model, PROMPTS[order], options, seeds=seeds[order]), together[order])
    for row in range(len(PROMPTS)):
        alone = decode(model, PROMPTS[[row]], options, seeds=seeds[[row]])
        np.testing.assert_array_equal(alone[0], together[row])


def test_rows_with_one_prompt_differ_by_their_seeds_alone(toy):
    model = toy(300)
    seeds = np.array([0, 1, 0, 2, 2], np.uint32)
    decoded = decode(model, np.full(5, PROMPTS[0]), Sampling(), seeds=seeds)
    np.testing.assert_array_equal(decoded[0], decoded[2])
    np.testing.assert_array_equal(decoded[3], decoded[4])
    assert len(np.unique(decoded, axis=0)) == 3


def test_without_seeds_every_row_has_that_of_the_options(toy):
    model = toy(300)
    for seed in (0, 2**32 - 1):
        np.testing.assert_array_equal(
            decode(model, PROMPTS, Sampling(seed=seed)),
            decode(model, PROMPTS, Sampling(), seeds=np.full(len(PROMPTS), seed, np.uint32)),
        )


def test_another_max_length_only_cuts_or_goes_on(toy):
    model = toy(12)
    for options in (Greedy(), Sampling()):
        longest = decode(model, PROMPTS, options, max_length=14)
        for max_length in (1, 5):
            np.testing.assert_array_equal(
                decode(model, PROMPTS, options, max_length=max_length), longest[:, :max_length]
            )


@pytest.mark.parametrize("options", [Greedy(), Sampling()], ids=str)
def test_the_model_is_asked_no_more_than_the_longest_row_needs(toy, counted, options):
    model = toy(12, eos_bias=1.0)
    step, marks = counted(model.step)
    has_ended = np.zeros(len(PROMPTS), bool)
    decoded = decode(model, PROMPTS, options, step=step, max_length=40, has_ended=has_ended)
    lengths = 1 + np.argmax(decoded == EOS, axis=1)
    assert 1 < lengths.max() < 40
    for longest in np.argsort(-lengths):  # all rows, then without the longest, ...
        marks.clear()
        decode(model, PROMPTS, options, step=step, max_length=40, has_ended=has_ended)
        jax.effects_barrier()
        assert len(marks) == lengths[~has_ended].max() - 1
        has_ended[longest] = True
    marks.clear()
    decode(model, PROMPTS, options, step=step, max_length=40, has_ended=has_ended)
    jax.effects_barrier()
    assert not marks


@pytest.mark.parametrize("options", [Greedy(), Sampling()], ids=str)
def test_rows_that_have_ended_say_nothing_and_change_nothing(toy, options):
    model = toy(12)
    has_ended = np.arange(len(PROMPTS)) % 3 == 1
    decoded = decode(model, PROMPTS, options, has_ended=has_ended, pad_id=4)
    assert (decoded[has_ended] == 4).all()
    without = decode(model, PROMPTS, options, pad_id=4)
    np.testing.assert_array_equal(decoded[~has_ended], without[~has_ended])


@pytest.mark.parametrize("options", [Greedy(), *SAMPLINGS, *ALL_BUT_CERTAIN], ids=str)
def test_ids_from_num_tokens_on_are_never_said_however_likely(toy, options):
    model = toy(160, eos_bias=-20.0)
    model.table[:, 130:] += 20.0
    decoded = decode(model, PROMPTS, options, max_length=30, num_tokens=130)
    assert decoded.max() < 130
    assert decode(model, PROMPTS, options, max_length=30).min() >= 130, "they are not likely"
    cut = toy(160, eos_bias=-20.0)
    cut.table = cut.table[:, :130]
    np.testing.assert_array_equal(decoded, decode(cut, PROMPTS, options, max_length=30))


def test_the_worked_example_of_the_nucleus():
    logits = jnp.log(jnp.array([[0.4, 0.3, 0.1, 0.1, 0.1]]))
    assert jnp.isfinite(nucleus(logits, 0.6)).tolist() == [[True, True, False, False, False]]
    assert jnp.isfinite(nucleus(logits, 0.75)).tolist() == [[True] * 5]


compiled_nucleus = jax.jit(nucleus)


@given(
    st.lists(st.floats(-30, 30, width=32), min_size=20, max_size=20),
    st.one_of(st.floats(1e-6, 1), st.sampled_from([1e-6, 1.0])),
)
@settings(deadline=None, max_examples=300)
def test_the_nucleus_is_the_smallest_set_of_likeliest_ids_with_the_mass(values, top_p):
    logits = np.array([values], np.float32)
    kept = np.isfinite(compiled_nucleus(logits, top_p))[0]
    mass = np.exp(logits[0].astype(np.float64) - logits.max())
    mass /= mass.sum()
    assert kept.any()
    assert not (~kept).any() or logits[0][kept].min() > logits[0][~kept].max()
    assert mass[kept].sum() >= top_p - 1e-6
    least = logits[0] == logits[0][kept].min()
    # Logits this close have one probability in float32.
    least |= kept & (mass <= mass[least].max() * (1 + 1e-5))
    assert mass[kept & ~least].sum() < top_p + 1e-6


def test_the_whole_mass_is_everything_that_may_be_drawn(toy):
    model = toy(300)
    np.testing.assert_array_equal(
        decode(model, PROMPTS, Sampling(top_p=1.0)), decode(model, PROMPTS, Sampling())
    )


def test_top_k_takes_no_more_than_k_of_equals_and_may_exceed_the_vocabulary():
    keys = jax.vmap(jax.random.key)(jnp.arange(500))
    logits = jnp.zeros((500, 6))
    assert set(np.asarray(draw(logits, keys, Sampling(top_k=2))).tolist()) == {0, 1}
    assert set(np.asarray(draw(logits, keys, Sampling(top_k=60))).tolist()) == set(range(6))
