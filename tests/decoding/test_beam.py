"""Beam search: exhaustive with beams enough, greedy with one, each example as if it were alone."""

import itertools

import jax
import numpy as np
import pytest

from t5like.decoding.beam import beam_search
from t5like.decoding.options import BeamSearch, Greedy
from t5like.decoding.sampling import decode_rows

EOS = 1
PROMPTS = np.array([3, 141, 59, 26, 535, 897, 932])
PENALTIES = [-0.7, 0.0, 1.0, 2.5]
STOPPING = [False, True, "never"]

run = jax.jit(
    beam_search,
    static_argnames=("step", "reorder", "options", "max_length", "eos_id", "pad_id", "num_tokens"),
)


def search(model, prompts, options, *, step=None, reorder=None, max_length=9, **arguments):
    """Returns tokens and scores of the toy's best sequences, as NumPy."""
    state, logits = model.start(prompts, options.num_beams)
    step, reorder = step or model.step, reorder or model.reorder
    tokens, scores = run(
        step, reorder, state, logits, options, max_length=max_length, eos_id=EOS, **arguments
    )
    assert tokens.dtype == np.int32
    return np.asarray(tokens), np.asarray(scores)


def without_padding(tokens):
    """Returns a decoded row up to its end mark."""
    tokens = tokens.tolist()
    return tuple(tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens)


@pytest.mark.parametrize("early_stopping", STOPPING)
@pytest.mark.parametrize("length_penalty", PENALTIES)
def test_with_a_beam_for_every_sequence_it_is_exhaustive_search(toy, length_penalty, early_stopping):
    model = toy(4, seed=1)
    max_length = 3
    sequences = list(model.all_sequences(max_length))
    assert len(sequences) == 1 + 3 + 9 * 4
    num_beams = len(sequences) + 2
    options = BeamSearch(
        num_beams=num_beams, num_best=num_beams, length_penalty=length_penalty, early_stopping=early_stopping
    )
    tokens, scores = search(model, PROMPTS[:3], options, max_length=max_length, pad_id=3)
    for row, prompt in enumerate(PROMPTS[:3]):
        expected = {s: model.log_prob(prompt, s) / len(s) ** length_penalty for s in sequences}
        best = sorted(sequences, key=expected.get, reverse=True)
        assert [without_padding(t) for t in tokens[row, :-2]] == best
        np.testing.assert_allclose(scores[row, :-2], [expected[s] for s in best], rtol=1e-5)
        for sequence, decoded in zip(best, tokens[row], strict=False):
            assert (decoded[len(sequence) :] == 3).all()
        assert (tokens[row, -2:] == 3).all(), "there are no more sequences than that"
        assert (scores[row, -2:] == -np.inf).all()


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("length_penalty", PENALTIES)
def test_with_one_beam_it_is_greedy(toy, length_penalty, early_stopping):
    model = toy(12, eos_bias=1.0)
    options = BeamSearch(num_beams=1, length_penalty=length_penalty, early_stopping=early_stopping)
    tokens, _ = search(model, PROMPTS, options)
    greedy = decode_rows(model.step, *model.start(PROMPTS), Greedy(), max_length=9, eos_id=EOS)
    assert len(np.unique(np.argmax(greedy == EOS, axis=1))) > 2, "rows end together"
    np.testing.assert_array_equal(tokens[:, 0], greedy)


@pytest.mark.parametrize("early_stopping", STOPPING)
@pytest.mark.parametrize("length_penalty", PENALTIES)
def test_scores_are_those_of_the_sequences_and_fall(toy, length_penalty, early_stopping):
    model = toy(12, eos_bias=1.0)
    options = BeamSearch(
        num_beams=5, num_best=5, length_penalty=length_penalty, early_stopping=early_stopping
    )
    tokens, scores = search(model, PROMPTS, options)
    assert (np.diff(scores) <= 0).all()
    lengths = set()
    for prompt, best, best_scores in zip(PROMPTS, tokens, scores, strict=True):
        sequences = [without_padding(t) for t in best]
        assert len(set(sequences)) == 5, "it says the same twice"
        lengths |= {len(s) for s in sequences}
        expected = [model.log_prob(prompt, s) / len(s) ** length_penalty for s in sequences]
        np.testing.assert_allclose(best_scores, expected, rtol=1e-5)
    assert len(lengths) > 1 or length_penalty > 2, "they end together"


@pytest.mark.parametrize("early_stopping", STOPPING)
def test_an_example_depends_on_its_prompt_and_on_nothing_else(toy, early_stopping):
    model = toy(12, eos_bias=1.0)
    options = BeamSearch(num_beams=3, num_best=2, early_stopping=early_stopping)
    tokens, scores = search(model, PROMPTS, options)
    for row in range(len(PROMPTS)):
        alone = search(model, PROMPTS[[row]], options)
        np.testing.assert_array_equal(alone[0][0], tokens[row])
        np.testing.assert_allclose(alone[1][0], scores[row], rtol=1e-6)
    order = np.random.default_rng(0).permutation(len(PROMPTS))
    np.testing.assert_array_equal(search(model, PROMPTS[order], options)[0], tokens[order])


def test_num_best_only_cuts(toy):
    model = toy(12, eos_bias=1.0)
    tokens, scores = search(model, PROMPTS, BeamSearch(num_beams=4, num_best=4))
    for num_best in (1, 3):
        some, some_scores = search(model, PROMPTS, BeamSearch(num_beams=4, num_best=num_best))
        np.testing.assert_array_equal(some, tokens[:, :num_best])
        np.testing.assert_array_equal(some_scores, scores[:, :num_best])


def test_one_token_at_most_is_the_likeliest_first(toy):
    model = toy(12)
    tokens, scores = search(
        model, PROMPTS, BeamSearch(num_beams=4, num_best=4, length_penalty=0.5), max_length=1
    )
    log_probs = model.log_probs[PROMPTS]
    np.testing.assert_array_equal(tokens[:, :, 0], np.argsort(-log_probs, axis=1)[:, :4])
    np.testing.assert_allclose(scores, -np.sort(-log_probs, axis=1)[:, :4], rtol=1e-5)


def test_what_the_beams_of_an_example_share_need_not_be_reordered(toy):
    model = toy(12, eos_bias=1.0)
    options = BeamSearch(num_beams=3, num_best=3)

    def step(state, tokens):
        logits, model_state = model.step(state["model"], tokens)
        # The example's own taste, as an encoder's output would give it one.
        return logits + 3.0 * jax.nn.one_hot(state["taste"], 12), {**state, "model": model_state}

    def reorder(state, rows):
        return {"model": model.reorder(state["model"], rows), "taste": state["taste"]}

    def reorder_all(state, rows):
        return {"model": model.reorder(state["model"], rows), "taste": state["taste"][rows]}

    model_state, logits = model.start(PROMPTS, 3)
    state = {"model": model_state, "taste": np.repeat(np.arange(2, 2 + len(PROMPTS)), 3)}
    arguments = {"options": options, "max_length": 9, "eos_id": EOS}
    tokens, scores = run(step, reorder, state, logits, **arguments)
    expected, expected_scores = run(step, reorder_all, state, logits, **arguments)
    np.testing.assert_array_equal(tokens, expected)
    np.testing.assert_array_equal(scores, expected_scores)


def test_the_state_is_reordered_once_a_step_and_never_after_the_last(toy, counted):
    model = toy(12, eos_bias=-30.0)
    step, marks = counted(model.step)
    reorder, reorder_marks = counted(model.reorder)
    for max_length in (1, 2, 6):
        marks.clear()
        reorder_marks.clear()
        search(model, PROMPTS, BeamSearch(), step=step, reorder=reorder, max_length=max_length)
        jax.effects_barrier()
        assert len(marks) == len(reorder_marks) == max_length - 1


@pytest.mark.parametrize("early_stopping", STOPPING)
def test_the_search_ends_when_every_example_is_done(toy, counted, early_stopping):
    model = toy(12, eos_bias=2.0)
    step, marks = counted(model.step)
    options = BeamSearch(num_beams=2, length_penalty=0.0, early_stopping=early_stopping)
    alone = []
    has_ended = ~np.eye(len(PROMPTS), dtype=bool)
    for others in has_ended:
        marks.clear()
        search(model, PROMPTS, options, step=step, max_length=60, has_ended=others)
        jax.effects_barrier()
        alone.append(len(marks))
    assert max(alone) < 30
    assert len(set(alone)) > 1
    marks.clear()
    search(model, PROMPTS, options, step=step, max_length=60, has_ended=np.zeros(len(PROMPTS), bool))
    jax.effects_barrier()
    assert len(marks) == max(alone)


def test_a_search_that_stops_later_takes_more_steps_and_finds_no_worse(toy, counted):
    model = toy(12, eos_bias=1.5)
    step, marks = counted(model.step)
    num_steps, found = [], []
    for early_stopping in (True, False, "never"):
        options = BeamSearch(num_beams=3, num_best=3, early_stopping=early_stopping)
        marks.clear()
        found.append(search(model, PROMPTS, options, step=step, max_length=30)[1])
        jax.effects_barrier()
        num_steps.append(len(marks))
    assert num_steps[0] < num_steps[1] < num_steps[2] < 29
    for scores, later_scores in itertools.pairwise(found):
        assert (later_scores >= scores).all()
        assert (later_scores > scores).any()


def test_examples_that_have_ended_say_nothing_and_change_nothing(toy, counted):
    model = toy(12, eos_bias=1.0)
    step, marks = counted(model.step)
    options = BeamSearch(num_beams=3, num_best=2)
    has_ended = np.arange(len(PROMPTS)) % 3 == 1
    tokens, scores = search(model, PROMPTS, options, has_ended=has_ended, pad_id=4)
    assert (tokens[has_ended] == 4).all()
    assert (scores[has_ended] == -np.inf).all()
    np.testing.assert_array_equal(
        tokens[~has_ended], search(model, PROMPTS, options, pad_id=4)[0][~has_ended]
    )
    search(model, PROMPTS, options, step=step, has_ended=np.ones(len(PROMPTS), bool))
    jax.effects_barrier()
    assert not marks


def test_ids_from_num_tokens_on_are_never_said_and_leave_probabilities_as_they_are(toy):
    model = toy(20)
    model.table[:, 12:] += 9.0
    model.log_probs = np.asarray(jax.nn.log_softmax(model.table), np.float64)
    options = BeamSearch(num_beams=4, num_best=4)
    assert search(model, PROMPTS, options)[0].max() >= 12, "they are not likely"
    tokens, scores = search(model, PROMPTS, options, num_tokens=12)
    assert tokens.max() < 12
    for row, prompt in enumerate(PROMPTS):
        sequence = without_padding(tokens[row, 0])
        np.testing.assert_allclose(
            scores[row, 0], model.log_prob(prompt, sequence) / len(sequence), rtol=1e-5
        )


def test_more_beams_than_allowed_ids_find_every_sequence_once(toy):
    model = toy(12, seed=1)
    options = BeamSearch(num_beams=8, num_best=8)
    tokens, scores = search(model, PROMPTS, options, max_length=2, num_tokens=2)
    # Of ids 0 and 1, the end mark: 1, 0 0 and 0 1.
    for row in range(len(PROMPTS)):
        assert {without_padding(t) for t in tokens[row, :3]} == {(1,), (0, 0), (0, 1)}
    assert np.isfinite(scores[:, :3]).all()
    assert (scores[:, 3:] == -np.inf).all()
