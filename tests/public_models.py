"""Tiny public models with random arrays, as Transformers 4.57 makes them, the same as ours, and vocabularies for them.

The oracle of every test that says "as the public code": imported from here, since making it takes a while.
"""

import dataclasses
import functools
import itertools
import string
import tempfile
from pathlib import Path

import jax
import numpy as np
import torch
import transformers as hf
from flax import linen as nn

from t5like.data.byte_level_bpe import BART, GPT2, ROBERTA, ByteLevelBPEVocabulary
from t5like.data.sentencepiece_vocabulary import SentencePieceVocabulary, train_vocabulary
from t5like.data.wordpiece import WordPieceVocabulary
from t5like.families import find_family
from t5like.interchange import import_params, plan_import
from t5like.models.transformer import Transformer, init_params
from t5like.weights.source import TensorInfo

# With version 5 exports are compared in tests/reliability/exports_in_transformers_5.py.
assert hf.__version__.startswith("4."), hf.__version__

VOCAB, BATCH, INPUTS, TARGETS = 64, 3, 9, 7
NUM_INPUTS, NUM_TARGETS = (9, 6, 3), (7, 2, 5)

T5_SIZES = {
    "vocab_size": VOCAB,
    "d_model": 16,
    "d_kv": 6,  # 3 heads of 6 are not 16
    "d_ff": 24,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 7,
    "decoder_start_token_id": 0,
}
BERT_SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
}
ROBERTA_SIZES = {**BERT_SIZES, "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5}
DISTILBERT_SIZES = {
    "vocab_size": VOCAB,
    "dim": 24,
    "n_layers": 2,
    "n_heads": 3,
    "hidden_dim": 32,
    "max_position_embeddings": 20,
}
GPT2_SIZES = {
    "vocab_size": VOCAB,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 3,
    "n_positions": 20,
    "pad_token_id": 0,
}
BART_SIZES = {
    "vocab_size": VOCAB,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 20,
}
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}

LANGUAGE_MODELS = {
    "t5-1.0": (hf.T5ForConditionalGeneration, hf.T5Config(**T5_SIZES)),
    "t5-1.1": (hf.T5ForConditionalGeneration, hf.T5Config(**T5_SIZES, **GATED)),
    "ul2": (
        hf.T5ForConditionalGeneration,
        hf.T5Config(**T5_SIZES, **GATED | {"feed_forward_proj": "gated-silu"}),
    ),
    "mt5": (hf.MT5ForConditionalGeneration, hf.MT5Config(**T5_SIZES)),
    "umt5": (hf.UMT5ForConditionalGeneration, hf.UMT5Config(**T5_SIZES, tie_word_embeddings=False)),
    "bert": (hf.BertForMaskedLM, hf.BertConfig(**BERT_SIZES)),
    "bert-next-sentence": (hf.BertForPreTraining, hf.BertConfig(**BERT_SIZES)),
    "minilm": (
        hf.BertForMaskedLM,
        hf.BertConfig(**BERT_SIZES | {"hidden_size": 36, "num_attention_heads": 6}),
    ),
    "roberta": (hf.RobertaForMaskedLM, hf.RobertaConfig(**ROBERTA_SIZES)),
    "distilbert": (hf.DistilBertForMaskedLM, hf.DistilBertConfig(**DISTILBERT_SIZES)),
    "gpt2": (hf.GPT2LMHeadModel, hf.GPT2Config(**GPT2_SIZES)),
    "bart": (hf.BartForConditionalGeneration, hf.BartConfig(**BART_SIZES)),
    "bart-scaled": (hf.BartForConditionalGeneration, hf.BartConfig(**BART_SIZES, scale_embedding=True)),
}
HEADS = {
    "bert-classifier": (hf.BertForSequenceClassification, hf.BertConfig(**BERT_SIZES, num_labels=3)),
    "bert-tagger": (hf.BertForTokenClassification, hf.BertConfig(**BERT_SIZES, num_labels=3)),
    "bert-spans": (hf.BertForQuestionAnswering, hf.BertConfig(**BERT_SIZES)),
    "bert-bare": (hf.BertModel, hf.BertConfig(**BERT_SIZES)),
    "roberta-classifier": (
        hf.RobertaForSequenceClassification,
        hf.RobertaConfig(**ROBERTA_SIZES, num_labels=3),
    ),
    "roberta-tagger": (hf.RobertaForTokenClassification, hf.RobertaConfig(**ROBERTA_SIZES, num_labels=3)),
    "roberta-spans": (hf.RobertaForQuestionAnswering, hf.RobertaConfig(**ROBERTA_SIZES)),
    "distilbert-classifier": (
        hf.DistilBertForSequenceClassification,
        hf.DistilBertConfig(**DISTILBERT_SIZES, num_labels=3),
    ),
    "distilbert-tagger": (
        hf.DistilBertForTokenClassification,
        hf.DistilBertConfig(**DISTILBERT_SIZES, num_labels=3),
    ),
    "distilbert-spans": (hf.DistilBertForQuestionAnswering, hf.DistilBertConfig(**DISTILBERT_SIZES)),
    "gpt2-classifier": (hf.GPT2ForSequenceClassification, hf.GPT2Config(**GPT2_SIZES, num_labels=3)),
    "gpt2-tagger": (hf.GPT2ForTokenClassification, hf.GPT2Config(**GPT2_SIZES, num_labels=3)),
    "gpt2-spans": (hf.GPT2ForQuestionAnswering, hf.GPT2Config(**GPT2_SIZES)),
    "t5-classifier": (hf.T5ForSequenceClassification, hf.T5Config(**T5_SIZES, num_labels=3)),
    "t5-tagger": (hf.T5ForTokenClassification, hf.T5Config(**T5_SIZES, num_labels=3)),
    "t5-spans": (hf.T5ForQuestionAnswering, hf.T5Config(**T5_SIZES)),
    "t5-encoder": (hf.T5EncoderModel, hf.T5Config(**T5_SIZES)),
    "bart-classifier": (hf.BartForSequenceClassification, hf.BartConfig(**BART_SIZES, num_labels=3)),
    "bart-spans": (hf.BartForQuestionAnswering, hf.BartConfig(**BART_SIZES)),
}
MODELS = LANGUAGE_MODELS | HEADS


class InMemory:
    """The arrays of a PyTorch model as a checkpoint."""

    origin = "memory"

    def __init__(self, arrays):
        self._arrays = arrays
        self.tensors = {name: TensorInfo(array.shape, array.dtype) for name, array in arrays.items()}

    def read(self, name):
        return self._arrays[name]


@functools.cache
def oracle(name):
    """Returns a public model in evaluation mode with random arrays, and those arrays by name."""
    kind, config = MODELS[name]
    model = kind(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for array_name, array in model.named_parameters():
            noise = torch.randn(array.shape, generator=generator)
            is_scale = ("norm" in array_name.lower() or "ln_" in array_name) and array_name.endswith("weight")
            array.copy_(1 + 0.2 * noise if is_scale else 0.15 * noise)
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.copy_(torch.randn(model.final_logits_bias.shape, generator=generator))
    model.tie_weights()
    return model, {key: value.numpy() for key, value in model.state_dict().items()}


def public_config(name):
    """Returns the config.json of a public model."""
    model, _ = oracle(name)
    return {**model.config.to_dict(), "architectures": [type(model).__name__]}


@functools.cache
def ours(name, scans_layers=True):
    """Returns our model, its parameters, and the family."""
    return load(public_config(name), oracle(name)[1], scans_layers=scans_layers)


def load(public, arrays, *, scans_layers=True):
    """Returns the model in a public config and arrays, its parameters, and the family."""
    family = find_family(public, "memory")
    source = InMemory(arrays)
    config = dataclasses.replace(
        family.read_config(public, family.head_of(public), source), scans_layers=scans_layers
    )
    transformer = Transformer(config)
    plan = plan_import(family, config, source)
    return transformer, import_params(plan, source, transformer, abstract_params(transformer)), family


def abstract_params(transformer):
    """Returns shape, dtype and sharding, on one device, of a model's parameters."""
    boxed = jax.eval_shape(functools.partial(init_params, transformer), jax.random.key(0))
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), nn.unbox(boxed)
    )


@functools.cache
def batch_of(name):
    """Returns a padded batch for the public model, and the same for ours."""
    model, _ = oracle(name)
    c = model.config
    rng = np.random.default_rng(0)
    inputs = rng.integers(5, VOCAB, (BATCH, INPUTS))
    input_mask = (np.arange(INPUTS) < np.array(NUM_INPUTS)[:, None]).astype(np.int64)
    eos = c.eos_token_id if c.eos_token_id is not None and c.eos_token_id < VOCAB else 3
    for row, length in enumerate(NUM_INPUTS):
        inputs[row, length - 1] = eos
    inputs[input_mask == 0] = c.pad_token_id
    public = {"input_ids": inputs, "attention_mask": input_mask}
    features = {"encoder_input_tokens": inputs, "encoder_segment_ids": input_mask}
    config = ours(name)[0].config
    if not config.num_encoder_layers:
        features = {"decoder_input_tokens": inputs, "decoder_segment_ids": input_mask}
    elif config.num_decoder_layers and name in LANGUAGE_MODELS:
        targets = rng.integers(5, VOCAB, (BATCH, TARGETS))
        target_mask = (np.arange(TARGETS) < np.array(NUM_TARGETS)[:, None]).astype(np.int64)
        shifted = np.pad(targets, ((0, 0), (1, 0)), constant_values=c.decoder_start_token_id)[:, :-1]
        shifted[target_mask == 0] = c.pad_token_id
        public["decoder_input_ids"] = shifted
        features |= {"decoder_input_tokens": shifted, "decoder_segment_ids": target_mask}
    elif config.num_decoder_layers:
        # The public classifiers of encoder-decoders read the same text twice, the second time shifted.
        shifted = np.pad(inputs, ((0, 0), (1, 0)), constant_values=c.decoder_start_token_id)[:, :-1]
        features |= {"decoder_input_tokens": shifted, "decoder_segment_ids": input_mask}
    return (
        {key: torch.from_numpy(value) for key, value in public.items()},
        {key: value.astype(np.int32) for key, value in features.items()},
    )


@functools.cache
def vocabulary_of(name):
    """Returns a vocabulary for the public model, which has embeddings enough for it."""
    family = public_config(name)["model_type"]
    if family in ("bert", "distilbert"):
        marks = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        within = [f"##{letter}" for letter in string.ascii_lowercase]
        return WordPieceVocabulary([*marks, *string.ascii_lowercase, *within, "the", "##ing"])
    if family in ("gpt2", "roberta", "bart"):
        settings = {"gpt2": GPT2, "roberta": ROBERTA, "bart": BART}[family]
        marks = ("<|endoftext|>",) if family == "gpt2" else ("<s>", "<pad>", "</s>", "<unk>")
        merges = [("t", "h"), ("th", "e"), ("Ġ", "a"), ("i", "n"), ("in", "g")]
        pieces = [*marks, *string.ascii_lowercase, "Ġ", *map("".join, merges)]
        pieces += [settings.mask_token] if settings.mask_token else []
        return ByteLevelBPEVocabulary(dict(zip(pieces, itertools.count())), merges, settings)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spiece.model"
        rng = np.random.default_rng(0)
        words = ["".join(rng.choice(list("abcdefghijklmnop"), rng.integers(2, 7))) for _ in range(300)]
        train_vocabulary([" ".join(words)], size=40, path=path)
        return SentencePieceVocabulary.load(path, extra_ids=20)


def is_real(name):
    """Returns which positions of the last stack hold a token."""
    config = ours(name)[0].config
    return batch_of(name)[1][f"{config.last_stack}_segment_ids"] > 0


def logits_of(output):
    """Returns what a public model's head gives, [batch, ...]."""
    if "start_logits" in output:
        return torch.stack([output["start_logits"], output["end_logits"]], -1)
    return next(output[key] for key in ("logits", "prediction_logits", "last_hidden_state") if key in output)
