"""Greedy decoding and beam search say what Transformers' `generate` says, token for token."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5like.decoding.beam import beam_search
from t5like.decoding.options import BeamSearch, Greedy
from t5like.decoding.sampling import decode_rows

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare decoding with")
transformers = pytest.importorskip(
    "transformers", reason="Transformers is not installed: nothing to compare decoding with"
)

PAD, EOS, VOCAB, MAX_LENGTH = 0, 1, 24, 12
SETTINGS = list(itertools.product([-0.7, 0.0, 0.6, 1.0, 2.0], [False, True, "never"]))


class Table(transformers.PreTrainedModel, transformers.GenerationMixin):
    """The toy as a model of Transformers; the first token of a prompt is the number it is looked up by."""

    config_class = transformers.PretrainedConfig
    _supports_cache_class = False

    def __init__(self, toy):
        super().__init__(
            transformers.PretrainedConfig(vocab_size=toy.vocab, is_decoder=True, num_hidden_layers=1)
        )
        self.table = torch.nn.Parameter(torch.tensor(toy.table), requires_grad=False)

    def forward(self, input_ids, attention_mask=None, **_):
        memory = input_ids[:, 0]
        for tokens in input_ids.T[1:]:
            memory = (31 * memory + tokens + 7) % len(self.table)
        return transformers.modeling_outputs.CausalLMOutput(logits=self.table[memory][:, None])

    def prepare_inputs_for_generation(self, input_ids, **kwargs):
        return {"input_ids": input_ids}


def with_end_mark(model, bias):
    """Returns the model with a random head that favours the end mark, so that rows end, each in its time."""
    head = torch.nn.Linear(model.config.hidden_size, VOCAB)
    rng = np.random.default_rng(1)
    with torch.no_grad():
        head.weight[:] = torch.tensor(0.6 * rng.normal(size=head.weight.shape))
        head.bias[:] = torch.tensor(rng.normal(size=VOCAB) + bias * (np.arange(VOCAB) == EOS))
    model.set_output_embeddings(head)
    return model.eval()


@functools.cache
def t5():
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=VOCAB,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        initializer_factor=2.0,
        decoder_start_token_id=PAD,
        tie_word_embeddings=False,
    )
    model = transformers.T5ForConditionalGeneration(config)
    model.shared.weight.data *= 0.3  # or the last token would decide alone
    return with_end_mark(model, bias=1.0)


@functools.cache
def gpt2():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCAB,
        n_positions=32,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.5,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=EOS,
    )
    return with_end_mark(transformers.GPT2LMHeadModel(config), bias=2.0)


MODELS = {"t5": t5, "gpt2": gpt2}


def prompts_of(name):
    """Returns ids and mask of 24 prompts: of several lengths for the encoder, of one for the decoder."""
    ids = np.random.default_rng(1).integers(2, VOCAB, (24, 7))
    lengths = 1 + np.arange(24) % 7 if name == "t5" else np.full(24, 7)
    mask = np.arange(7) < lengths[:, None]
    return np.where(mask, ids, PAD), mask.astype(np.int64)


def generate(model, ids, mask, **arguments):
    """Returns what Transformers generates, prompt left out, [batch, num, MAX_LENGTH], and scores or None."""
    said = model.generate(
        torch.tensor(ids),
        attention_mask=torch.tensor(mask),
        do_sample=False,
        max_new_tokens=MAX_LENGTH,
        pad_token_id=PAD,
        eos_token_id=EOS,
        forced_eos_token_id=None,
        return_dict_in_generate=True,
        output_scores=True,
        **arguments,
    )
    prompt_length = 1 if model.config.is_encoder_decoder else ids.shape[1]
    tokens = said.sequences.numpy()[:, prompt_length:]
    after_end = np.cumsum(tokens == EOS, axis=1) - (tokens == EOS) > 0
    tokens = np.where(after_end, PAD, tokens)  # beam search pads with end marks where padding is 0
    tokens = np.pad(tokens, ((0, 0), (0, MAX_LENGTH - tokens.shape[1])), constant_values=PAD)
    scores = said.get("sequences_scores")
    if scores is not None:
        scores = scores.numpy().reshape(len(ids), -1)
    return tokens.reshape(len(ids), -1, MAX_LENGTH), scores


def as_step(model):
    """Returns a step function that asks a model of PyTorch for the logits after all that was said."""

    def ask(ids, mask, said, num_said):
        ids, mask, said = (torch.tensor(np.asarray(array), dtype=torch.long) for array in (ids, mask, said))
        said = said[:, : int(num_said)]
        with torch.no_grad():
            if model.config.is_encoder_decoder:
                start = torch.full((len(ids), 1), model.config.decoder_start_token_id)
                asked = {"decoder_input_ids": torch.cat([start, said], dim=1)}
            else:
                ids = torch.cat([ids, said], dim=1)
                mask = torch.ones_like(ids)
                asked = {}
            return model(input_ids=ids, attention_mask=mask, **asked).logits[:, -1].numpy()

    def logits_after(state):
        shape = jax.ShapeDtypeStruct((len(state["ids"]), VOCAB), jnp.float32)
        return jax.pure_callback(ask, shape, state["ids"], state["mask"], state["said"], state["num_said"])

    def step(state, tokens):
        said = state["said"].at[:, state["num_said"]].set(tokens)
        state = state | {"said": said, "num_said": state["num_said"] + 1}
        return logits_after(state), state

    def start(ids, mask, num_beams=1):
        state = {
            "ids": jnp.asarray(ids, jnp.int32),
            "mask": jnp.asarray(mask, jnp.int32),
            "said": jnp.zeros((len(ids), MAX_LENGTH), jnp.int32),
            "num_said": jnp.zeros((), jnp.int32),
        }
        logits = logits_after(state)
        return reorder(state, np.repeat(np.arange(len(ids)), num_beams)), logits

    return step, start


def reorder(state, rows):
    return {name: leaf if name == "num_said" else leaf[rows] for name, leaf in state.items()}


@pytest.mark.parametrize("num_beams", [2, 5])
@pytest.mark.parametrize(("length_penalty", "early_stopping"), SETTINGS)
def test_beam_search_of_a_table(toy, num_beams, length_penalty, early_stopping):
    prompts = np.arange(100, 160, dtype=np.int32)
    options = BeamSearch(
        num_beams=num_beams,
        num_best=num_beams,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
    )
    model = toy(2 * num_beams + 3, seed=num_beams, eos_bias=1.5)
    state, logits = model.start(prompts, num_beams)
    tokens, scores = jax.jit(
        functools.partial(
            beam_search, model.step, model.reorder, options=options, max_length=MAX_LENGTH, eos_id=EOS
        )
    )(state, logits)
    expected, expected_scores = generate(
        Table(model),
        prompts[:, None],
        np.ones((60, 1)),
        num_beams=num_beams,
        num_return_sequences=num_beams,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
    )
    assert len(np.unique((expected == EOS).argmax(-1))) > 3, "sequences end together"
    np.testing.assert_array_equal(tokens, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("num_best", [1, 3])
@pytest.mark.parametrize(
    ("length_penalty", "early_stopping"), [(1.0, False), (0.0, True), (2.0, "never"), (-1.0, "never")]
)
def test_beam_search_of_a_transformer(name, num_best, length_penalty, early_stopping):
    model, (ids, mask) = MODELS[name](), prompts_of(name)
    step, start = as_step(model)
    options = BeamSearch(
        num_beams=4, num_best=num_best, length_penalty=length_penalty, early_stopping=early_stopping
    )
    tokens, scores = beam_search(
        step, reorder, *start(ids, mask, 4), options, max_length=MAX_LENGTH, eos_id=EOS, pad_id=PAD
    )
    expected, expected_scores = generate(
        model,
        ids,
        mask,
        num_beams=4,
        num_return_sequences=num_best,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
    )
    assert len(np.unique((expected == EOS).argmax(-1))) > 2, "sequences end together"
    np.testing.assert_array_equal(tokens, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_greedy_decoding_of_a_transformer(name):
    model, (ids, mask) = MODELS[name](), prompts_of(name)
    step, start = as_step(model)
    tokens = decode_rows(step, *start(ids, mask), Greedy(), max_length=MAX_LENGTH, eos_id=EOS, pad_id=PAD)
    expected, _ = generate(model, ids, mask, num_beams=1)
    assert len(np.unique((expected == EOS).argmax(-1))) > 2, "rows end together"
    np.testing.assert_array_equal(tokens, expected[:, 0])


def test_forbidden_ids_leave_the_scores_of_the_others_as_they_are(toy):
    prompts = np.arange(100, 160, dtype=np.int32)
    model = toy(VOCAB, eos_bias=0.5)
    state, logits = model.start(prompts, 4)
    tokens, scores = beam_search(
        model.step,
        model.reorder,
        state,
        logits,
        BeamSearch(),
        max_length=MAX_LENGTH,
        eos_id=EOS,
        num_tokens=12,
    )
    expected, expected_scores = generate(
        Table(model), prompts[:, None], np.ones((60, 1)), num_beams=4, suppress_tokens=list(range(12, VOCAB))
    )
    np.testing.assert_array_equal(tokens, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)
