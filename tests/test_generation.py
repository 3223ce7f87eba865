"""A model writes what one pass over its own output would have it write, and what Transformers' `generate` writes."""

import functools

import jax
import numpy as np
import pytest

from t5like.batch import SpecialTokens
from t5like.decoding.options import BeamSearch, Greedy, Sampling
from t5like.generation import Writer, bucket_length, label_scores, prompt_rows
from t5like.losses import token_cross_entropy
from t5like.models.transformer import Transformer
from tests.tiny_models import MODELS, VOCAB, ours

NEVER = -1
"""An end mark that no row meets."""
NUM_INPUTS = (9, 1, 6, 3, 7)
MAX_LENGTH = 9
WRITERS = ["t5-1.0", "t5-1.1", "umt5", "bart", "gpt2"]
LONGEST = 10


def marks(name, eos_id=NEVER):
    c = MODELS[name]
    start = c.get("decoder_start_token_id", 0)
    return SpecialTokens(eos_id, np.zeros(0, np.int32), pad_id=c["pad_token_id"], decoder_start_id=start)


@functools.cache
def inputs_of(name, seed=0):
    """Returns rows of several lengths, and one of pure padding as the last, as the model reads them."""
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(5, VOCAB, num).astype(np.int32) for num in (*NUM_INPUTS, 0)]
    batch = prompt_rows(prompts, LONGEST, pad_id=MODELS[name]["pad_token_id"])
    if name == "gpt2":
        return batch
    # An encoder's rows are padded on the right.
    tokens, segment_ids = batch["decoder_input_tokens"].copy(), np.zeros((6, LONGEST), np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row] = np.pad(prompt, (0, LONGEST - len(prompt)), constant_values=tokens[-1, 0])
        segment_ids[row, : len(prompt)] = 1
    return {"encoder_input_tokens": tokens, "encoder_segment_ids": segment_ids}


@functools.cache
def writer_of(name, eos_id, max_length=MAX_LENGTH, decoding=None, num_tokens=VOCAB):
    model = ours(name)[0]
    return Writer(model, marks(name, eos_id), num_tokens=num_tokens, max_length=max_length, decoding=decoding)


def write(name, batch, eos_id=NEVER, seeds=None, **options):
    """Returns tokens [rows, num_best, max_length] and scores."""
    writer = writer_of(name, eos_id, **options)
    answers = writer(writer.prepare(ours(name)[1]), batch, seeds)
    return np.asarray(answers.tokens), np.asarray(answers.scores)


def forced_logits(name, batch, decoded):
    """Returns the logits [rows, max_length, vocab] of one pass over what was written."""
    model, params, _ = ours(name)
    start = np.full((len(decoded), 1), marks(name).decoder_start_id)
    if name == "gpt2":
        tokens = np.concatenate([batch["decoder_input_tokens"], decoded], 1)[:, :-1]
        segment_ids = np.concatenate([batch["decoder_segment_ids"], np.ones_like(decoded)], 1)[:, :-1]
        positions = np.maximum(np.cumsum(segment_ids, axis=1) - 1, 0)
        features = {
            "decoder_input_tokens": tokens,
            "decoder_segment_ids": segment_ids,
            "decoder_positions": positions,
        }
    else:
        shifted = np.concatenate([start, decoded], 1)[:, :-1]
        features = {**batch, "decoder_input_tokens": shifted, "decoder_segment_ids": np.ones_like(shifted)}
    logits = np.asarray(jax.jit(model.apply)({"params": params}, features))
    return logits[:, -decoded.shape[1] :]


def common_end_mark(decoded):
    """Returns the id that rows come to write at the most different times, two at least."""

    def times(token):
        return {row.tolist().index(token) for row in decoded[:-1] if token in row}

    token = max(np.unique(decoded[:-1]), key=lambda token: len(times(token)))
    if len(times(token)) > 1:
        return int(token)
    raise AssertionError("the random model says the same thing everywhere; draw another")


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_written_is_the_argmax_of_one_pass_over_it(name):
    batch = inputs_of(name)
    decoded = write(name, batch)[0][:, 0]
    assert decoded.dtype == np.int32
    assert decoded.shape == (6, MAX_LENGTH)
    assert len(np.unique(decoded[:-1], axis=0)) > 1, "every row says the same"
    np.testing.assert_array_equal(decoded[:-1], np.argmax(forced_logits(name, batch, decoded), -1)[:-1])


@pytest.mark.parametrize("name", ["t5-1.1", "gpt2"])
def test_padding_follows_the_end_mark_and_rows_do_not_wait_for_each_other(name):
    endless = write(name, inputs_of(name))[0][:, 0]
    eos_id = common_end_mark(endless)
    expected = endless.copy()
    for row in expected[:-1]:
        if eos_id in row:
            row[row.tolist().index(eos_id) + 1 :] = marks(name).pad_id
    np.testing.assert_array_equal(write(name, inputs_of(name), eos_id)[0][:, 0], expected)


@pytest.mark.parametrize("decoding", [None, BeamSearch(num_beams=2)], ids=["greedy", "beams"])
@pytest.mark.parametrize("name", ["t5-1.1", "bart", "gpt2"])
def test_a_row_of_padding_says_nothing(name, decoding):
    assert (write(name, inputs_of(name), decoding=decoding)[0][-1] == marks(name).pad_id).all()


@pytest.mark.parametrize(
    "decoding", [None, BeamSearch(num_beams=3), Sampling(seed=5)], ids=["greedy", "beams", "draws"]
)
@pytest.mark.parametrize("name", ["t5-1.1", "gpt2"])
def test_more_padding_and_other_neighbours_change_nothing(name, decoding):
    batch = inputs_of(name)
    seeds = np.arange(6, dtype=np.uint32)
    expected = write(name, batch, seeds=seeds, decoding=decoding)[0]
    before = (1, 0) if name == "gpt2" else (0, 5)
    wider = {key: np.pad(array, ((0, 0), before)) for key, array in batch.items()}
    np.testing.assert_array_equal(write(name, wider, seeds=seeds, decoding=decoding)[0], expected)
    order = np.array([3, 0, 4])
    some = {key: array[order] for key, array in batch.items()}
    np.testing.assert_array_equal(
        write(name, some, seeds=seeds[order], decoding=decoding)[0], expected[order]
    )


@pytest.mark.parametrize("name", ["t5-1.1", "gpt2"])
def test_ids_that_no_tokenizer_knows_are_never_written(name):
    """The last rows of a table that was rounded up: here as many as to change what is said."""
    for decoding in (Greedy(), BeamSearch(num_beams=3), Sampling(temperature=5.0)):
        some = write(name, inputs_of(name), decoding=decoding)[0]
        few = write(name, inputs_of(name), decoding=decoding, num_tokens=20)[0]
        assert some.max() >= 20
        assert few.max() < 20


class CountedSteps(Transformer):
    """Calls back once for every position whose logits are computed."""

    def logits(self, x: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: steps.append(1))
        return super().logits(x)


steps: list[int] = []


def test_one_step_is_computed_a_token_and_none_once_every_row_has_ended():
    model, params, _ = ours("t5-1.1")

    def count(batch, eos_id):
        steps.clear()
        writer = Writer(
            CountedSteps(model.config), marks("t5-1.1", eos_id), num_tokens=VOCAB, max_length=MAX_LENGTH
        )
        decoded = np.asarray(writer(writer.prepare(params), batch).tokens)[:, 0]
        jax.effects_barrier()
        return len(steps), decoded

    batch = inputs_of("t5-1.1")
    num, endless = count(batch, NEVER)
    assert num == MAX_LENGTH
    row, position = next(
        (i, t) for i, row in enumerate(endless) for t in range(1, MAX_LENGTH - 1) if row[t] not in row[:t]
    )
    with_padding = {key: array[[row, -1]] for key, array in batch.items()}  # which is not waited for
    num, decoded = count(with_padding, int(endless[row, position]))
    assert num == position + 1
    np.testing.assert_array_equal(decoded[0, : position + 1], endless[row, : position + 1])
    assert count({key: array[[-1, -1]] for key, array in batch.items()}, NEVER)[0] == 1


def test_a_stream_is_what_is_written_at_once():
    for name, decoding in (
        ("t5-1.1", None),
        ("gpt2", Sampling(temperature=0.7, top_k=9, seed=3)),
        ("bart", None),
    ):
        writer = writer_of(name, NEVER, decoding=decoding)
        prepared = writer.prepare(ours(name)[1])
        batch = {key: array[:3] for key, array in inputs_of(name).items()}
        parts = np.stack(list(writer.stream(prepared, batch)), axis=1)
        np.testing.assert_array_equal(parts, np.asarray(writer(prepared, batch).tokens)[:, 0])


@pytest.mark.parametrize("name", ["t5-1.1", "gpt2"])
def test_a_stream_waits_for_no_row_of_padding(name):
    """A text alone in a terminal shares its batch with rows that fill it."""
    endless = write(name, inputs_of(name))[0][:, 0]
    row, position = next(
        (i, t)
        for i, row in enumerate(endless[:-1])
        for t in range(MAX_LENGTH - 1)
        if row[t] not in row[:t] and row[t] != marks(name).pad_id
    )
    writer = writer_of(name, int(endless[row, position]))
    batch = {key: array[[row, -1]] for key, array in inputs_of(name).items()}
    assert len(list(writer.stream(writer.prepare(ours(name)[1]), batch))) == position + 1


def test_a_prefix_of_a_prompt_sees_itself_whole_in_decoding_too():
    model, params, _ = ours("gpt2")
    batch = {key: array[:-1] for key, array in inputs_of("gpt2").items()}
    is_prefix = batch["decoder_segment_ids"] * (np.arange(LONGEST) < LONGEST - 2)
    segment_ids = batch["decoder_segment_ids"]
    positions = np.maximum(np.cumsum(segment_ids, axis=1) - 1, 0)
    for features in ({}, {"decoder_causal_attention": is_prefix}):
        whole = model.apply({"params": params}, {**batch, **features, "decoder_positions": positions})
        writer = writer_of("gpt2", NEVER)
        first, _ = writer._start(writer.prepare(params), {**batch, **features})
        np.testing.assert_allclose(first, whole[:, -1], atol=1e-5)
    causal, _ = writer._start(writer.prepare(params), batch)
    assert np.abs(causal - first).max() > 1e-3


# --- Against the public code ----------------------------------------------------------------------------------


def generated(name, batch, eos_id, max_length, **options):
    """Returns what Transformers generates, in our layout, and the scores of beams."""
    from tests.public_models import oracle, torch

    model, _ = oracle(name)
    stack = "decoder" if name == "gpt2" else "encoder"
    with torch.no_grad():
        output = model.generate(
            torch.from_numpy(batch[f"{stack}_input_tokens"].astype(np.int64)),
            attention_mask=torch.from_numpy(batch[f"{stack}_segment_ids"].astype(np.int64)),
            max_new_tokens=max_length,
            do_sample=False,
            eos_token_id=eos_id,
            forced_eos_token_id=None,
            pad_token_id=model.config.pad_token_id,
            return_dict_in_generate=True,
            use_cache=False,  # theirs has no room for a decoder that is deeper than the encoder
            output_scores=True,
            **options,
        )
    prompt_length = batch[f"{stack}_input_tokens"].shape[1] if name == "gpt2" else 1
    tokens = output.sequences.numpy()[:, prompt_length:]
    pad = ((0, 0), (0, max_length - tokens.shape[1]))
    tokens = np.pad(tokens, pad, constant_values=model.config.pad_token_id)
    # Where the padding id is 0, theirs is the end mark once more.
    has_ended = np.cumsum(tokens == eos_id, axis=1) - (tokens == eos_id) > 0
    tokens[has_ended] = model.config.pad_token_id
    return tokens.astype(np.int32), None if "num_beams" not in options else output.sequences_scores.numpy()


@functools.cache
def real_inputs(name, seed):
    return {key: array[:-1] for key, array in inputs_of(name, seed).items()}


def end_marks(name, batch):
    """Returns an id that some row comes to say, so that rows end at different times, and one that none says."""
    return common_end_mark(
        np.concatenate([write(name, batch)[0][:, 0], np.zeros((1, MAX_LENGTH), int)])
    ), VOCAB - 1


@pytest.mark.parametrize("name", WRITERS)
def test_greedy_answers_are_those_of_generate(name):
    batch = real_inputs(name, 0)
    for eos_id in end_marks(name, batch):
        tokens, _ = write(name, batch, eos_id, max_length=9)
        np.testing.assert_array_equal(tokens[:, 0], generated(name, batch, eos_id, 9)[0])


@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 2.0])
@pytest.mark.parametrize("name", WRITERS)
def test_answers_of_beam_search_are_those_of_generate(name, length_penalty):
    batch = real_inputs(name, 0)
    eos_id = end_marks(name, batch)[0]
    decoding = BeamSearch(num_beams=4, num_best=3, length_penalty=length_penalty)
    tokens, scores = write(name, batch, eos_id, decoding=decoding)
    expected, expected_scores = generated(
        name, batch, eos_id, MAX_LENGTH, num_beams=4, num_return_sequences=3, length_penalty=length_penalty
    )
    np.testing.assert_array_equal(tokens.reshape(expected.shape), expected)
    np.testing.assert_allclose(scores.reshape(-1), expected_scores, atol=1e-4)


# --- Labels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t5-1.0", "bart"])
def test_a_label_scores_what_a_pass_over_it_alone_gives(name):
    model, params, _ = ours(name)
    batch = real_inputs(name, 0)
    rng = np.random.default_rng(0)
    labels = [rng.integers(5, VOCAB, num) for num in (1, 3, 4)]
    length = 4
    targets = np.stack([np.pad(label, (0, length - len(label))) for label in labels])
    weights = np.stack([np.arange(length) < len(label) for label in labels]).astype(np.float32)
    start = marks(name).decoder_start_id
    decoder = {
        "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)), constant_values=start)[:, :-1],
        "decoder_target_tokens": targets,
        "decoder_segment_ids": weights.astype(np.int32),
        "decoder_loss_weights": weights,
    }
    scores = label_scores(model, params, batch, targets=decoder)
    assert scores.shape == (5, 3)
    for row in range(5):
        for label, ids in enumerate(labels):
            one = {key: array[row : row + 1] for key, array in batch.items()}
            one |= {key: array[label : label + 1, : len(ids)] for key, array in decoder.items()}
            logits = model.apply({"params": params}, one)
            loss = token_cross_entropy(logits, one["decoder_target_tokens"], one["decoder_loss_weights"])
            np.testing.assert_allclose(scores[row, label], -loss.cross_entropy, rtol=1e-5)


# --- Rows -----------------------------------------------------------------------------------------------------


def test_lengths_fall_into_few_buckets():
    assert [bucket_length(n, 100) for n in (5, 16, 17, 70, 100)] == [16, 16, 32, 100, 100]
    assert len({bucket_length(n, 512) for n in range(1, 513)}) == 6
    assert all(n <= bucket_length(n, 512) <= 2 * max(n, 8) for n in range(1, 513))


def test_prompts_end_together():
    rows = prompt_rows([np.array([5, 6, 7]), np.array([], int)], 4, pad_id=0)
    np.testing.assert_array_equal(rows["decoder_input_tokens"], [[0, 5, 6, 7], [0, 0, 0, 0]])
    np.testing.assert_array_equal(rows["decoder_segment_ids"], [[0, 1, 1, 1], [0, 0, 0, 0]])
