"""Streaming says what decoding in one piece says, token by token and no sooner than asked."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from t5like.decoding import streaming
from t5like.decoding.options import BeamSearch, Greedy, Sampling
from t5like.decoding.sampling import decode_rows
from t5like.decoding.streaming import stream
from t5like.errors import UserError

EOS = 1
PROMPTS = np.array([3, 141, 59, 26, 535])


@pytest.mark.parametrize("max_length", [1, 4, 40])
@pytest.mark.parametrize(
    "options", [Greedy(), Sampling(seed=3), Sampling(temperature=0.7, top_k=9, top_p=0.8)], ids=str
)
def test_the_columns_are_those_of_decoding_in_one_piece(toy, options, max_length):
    model = toy(12, eos_bias=1.0)
    arguments = {"max_length": max_length, "eos_id": EOS, "pad_id": 4, "num_tokens": 11}
    arguments["has_ended"] = np.arange(len(PROMPTS)) == 2
    decoded = np.asarray(decode_rows(model.step, *model.start(PROMPTS), options, **arguments))
    columns = list(stream(model.step, *model.start(PROMPTS), options, **arguments))
    assert all(column.dtype == np.int32 and column.shape == PROMPTS.shape for column in columns)
    np.testing.assert_array_equal(np.stack(columns, axis=1), decoded[:, : len(columns)])
    assert (decoded[:, len(columns) :] == 4).all()
    if max_length == 40:
        assert (columns[-1] == EOS).any(), "it goes on after the last end mark"
        assert len(columns) < 40


def test_seeds_are_those_of_the_rows(toy):
    model = toy(300)
    seeds = np.array([0, 1, 0, 2, 7], np.uint32)
    arguments = {"max_length": 5, "eos_id": EOS, "seeds": seeds}
    prompts = np.full(5, PROMPTS[0])
    decoded = decode_rows(model.step, *model.start(prompts), Sampling(), **arguments)
    columns = list(stream(model.step, *model.start(prompts), Sampling(), **arguments))
    np.testing.assert_array_equal(np.stack(columns, axis=1), decoded)
    assert len(np.unique(decoded, axis=0)) == 4


def test_a_token_is_made_when_it_is_asked_for(toy, counted):
    model = toy(12, eos_bias=-30.0)
    step, marks = counted(model.step)
    tokens = stream(step, *model.start(PROMPTS), Greedy(), max_length=9, eos_id=EOS)
    for num_steps in range(4):
        next(tokens)
        jax.effects_barrier()
        assert len(marks) == num_steps


def test_nothing_is_said_where_every_row_has_ended(toy):
    model = toy(12)
    state, logits = model.start(PROMPTS)
    silent = np.ones(len(PROMPTS), bool)
    assert list(stream(model.step, state, logits, Greedy(), max_length=9, eos_id=EOS, has_ended=silent)) == []


def test_a_model_is_compiled_once_whatever_its_parameters_the_options_and_the_prompts(toy):
    num_traces = 0

    def step(table, state, tokens):
        nonlocal num_traces
        num_traces += 1
        memory = (31 * state + tokens) % len(table)
        return table[memory], memory

    tables = [toy(12, seed=seed).table for seed in range(2)]
    said = []
    for table, options, prompt in itertools.product(tables, [Greedy(), Sampling(seed=1)], (3, 5)):
        state = jnp.array([prompt])
        columns = stream(Partial(step, table), state, table[state], options, max_length=9, eos_id=-1)
        said.append(tuple(int(column[0]) for column in columns))
    assert num_traces == 1
    assert len(set(said)) == len(said)


def test_a_plain_function_is_compiled_once_too_and_another_seed_compiles_nothing(toy, counted):
    num_traces = 0
    model = toy(12)

    def step(state, tokens):
        nonlocal num_traces
        num_traces += 1
        return model.step(state, tokens)

    said, num_programs = [], []
    for seed in range(4):
        columns = stream(step, *model.start(PROMPTS), Sampling(seed=seed), max_length=9, eos_id=-1)
        said.append(np.stack(list(columns)))
        num_programs.append(streaming._choose._cache_size())
    assert num_traces == 1
    assert len(set(num_programs)) == 1
    assert len(np.unique(said, axis=0)) == 4


def test_the_state_is_used_up(toy):
    model = toy(12)
    state, logits = model.start(PROMPTS)
    list(stream(model.step, state, logits, Greedy(), max_length=2, eos_id=-1))
    assert state["memory"].is_deleted()


def test_beam_search_cannot_be_streamed(toy):
    model = toy(12)
    with pytest.raises(UserError, match="Beam search cannot be streamed"):
        stream(model.step, *model.start(PROMPTS, 4), BeamSearch(), max_length=9, eos_id=EOS)
