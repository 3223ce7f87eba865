"""Tiny models of every family and head as public checkpoints, a config.json and random arrays, and as ours.

What needs the public code as well is in tests/public_models.py.
"""

import dataclasses
import functools
import itertools
import string
import tempfile
from pathlib import Path

import jax
import numpy as np
from flax import linen as nn

from t5like.data.byte_level_bpe import BART, GPT2, ROBERTA, ByteLevelBPEVocabulary
from t5like.data.sentencepiece_vocabulary import SentencePieceVocabulary, train_vocabulary
from t5like.data.wordpiece import WordPieceVocabulary
from t5like.families import find_family
from t5like.interchange import import_params, plan_import, public_shape, shapes_of
from t5like.models.transformer import Transformer, init_params
from t5like.weights.source import TensorInfo

SEED = 8  # of arrays with which every model that writes has something to say
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
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
BERT_SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
    "pad_token_id": 0,
}
ROBERTA_SIZES = {**BERT_SIZES, "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5}
DISTILBERT_SIZES = {
    "vocab_size": VOCAB,
    "dim": 24,
    "n_layers": 2,
    "n_heads": 3,
    "hidden_dim": 32,
    "max_position_embeddings": 20,
    "pad_token_id": 0,
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
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}


def public(architecture, model_type, **sizes):
    """Returns a config.json."""
    return {"architectures": [architecture], "model_type": model_type, **sizes}


LANGUAGE_MODELS = {
    "t5-1.0": public("T5ForConditionalGeneration", "t5", **T5_SIZES),
    "t5-1.1": public("T5ForConditionalGeneration", "t5", **T5_SIZES, **GATED),
    "ul2": public(
        "T5ForConditionalGeneration", "t5", **T5_SIZES, **GATED | {"feed_forward_proj": "gated-silu"}
    ),
    "mt5": public("MT5ForConditionalGeneration", "mt5", **T5_SIZES, tie_word_embeddings=False),
    "umt5": public("UMT5ForConditionalGeneration", "umt5", **T5_SIZES, tie_word_embeddings=False),
    "bert": public("BertForMaskedLM", "bert", **BERT_SIZES),
    "bert-next-sentence": public("BertForPreTraining", "bert", **BERT_SIZES),
    "minilm": public("BertForMaskedLM", "bert", **BERT_SIZES | {"hidden_size": 36, "num_attention_heads": 6}),
    "roberta": public("RobertaForMaskedLM", "roberta", **ROBERTA_SIZES),
    "distilbert": public("DistilBertForMaskedLM", "distilbert", **DISTILBERT_SIZES),
    "gpt2": public("GPT2LMHeadModel", "gpt2", **GPT2_SIZES),
    "bart": public("BartForConditionalGeneration", "bart", **BART_SIZES),
    "bart-scaled": public("BartForConditionalGeneration", "bart", **BART_SIZES, scale_embedding=True),
}
HEADS = {
    "bert-classifier": public("BertForSequenceClassification", "bert", **BERT_SIZES, num_labels=3),
    "bert-tagger": public("BertForTokenClassification", "bert", **BERT_SIZES, num_labels=3),
    "bert-spans": public("BertForQuestionAnswering", "bert", **BERT_SIZES),
    "bert-bare": public("BertModel", "bert", **BERT_SIZES),
    "roberta-classifier": public(
        "RobertaForSequenceClassification", "roberta", **ROBERTA_SIZES, num_labels=3
    ),
    "roberta-tagger": public("RobertaForTokenClassification", "roberta", **ROBERTA_SIZES, num_labels=3),
    "roberta-spans": public("RobertaForQuestionAnswering", "roberta", **ROBERTA_SIZES),
    "distilbert-classifier": public(
        "DistilBertForSequenceClassification", "distilbert", **DISTILBERT_SIZES, num_labels=3
    ),
    "distilbert-tagger": public(
        "DistilBertForTokenClassification", "distilbert", **DISTILBERT_SIZES, num_labels=3
    ),
    "distilbert-spans": public("DistilBertForQuestionAnswering", "distilbert", **DISTILBERT_SIZES),
    "gpt2-classifier": public("GPT2ForSequenceClassification", "gpt2", **GPT2_SIZES, num_labels=3),
    "gpt2-tagger": public("GPT2ForTokenClassification", "gpt2", **GPT2_SIZES, num_labels=3),
    "gpt2-spans": public("GPT2ForQuestionAnswering", "gpt2", **GPT2_SIZES),
    "t5-classifier": public("T5ForSequenceClassification", "t5", **T5_SIZES, num_labels=3),
    "t5-tagger": public("T5ForTokenClassification", "t5", **T5_SIZES, num_labels=3),
    "t5-spans": public("T5ForQuestionAnswering", "t5", **T5_SIZES),
    "t5-encoder": public("T5EncoderModel", "t5", **T5_SIZES),
    "bart-classifier": public("BartForSequenceClassification", "bart", **BART_SIZES, num_labels=3),
    "bart-spans": public("BartForQuestionAnswering", "bart", **BART_SIZES),
}
MODELS = LANGUAGE_MODELS | HEADS

# What checkpoints hold that their configs do not tell.
UNTOLD = {
    "bert-next-sentence": {"predicts_next_sentence": True},
    "bert-bare": {"has_pooler_without_head": True},
}


class InMemory:
    """Arrays by name as a checkpoint."""

    origin = "memory"

    def __init__(self, arrays):
        self._arrays = arrays
        self.tensors = {name: TensorInfo(array.shape, array.dtype) for name, array in arrays.items()}

    def read(self, name):
        return self._arrays[name]


@functools.cache
def arrays_of(name):
    """Returns random arrays, norms and biases among them, by their public names; copies are left out."""
    config_json = MODELS[name]
    family = find_family(config_json, name)
    config = family.read_config(config_json, family.head_of(config_json), None)
    config = dataclasses.replace(config, **UNTOLD.get(name, {}))
    shapes, rng = shapes_of(config), np.random.default_rng(SEED)
    arrays = {}
    for tensor in family.tensors(config):
        noise = rng.normal(size=public_shape(tensor, shapes)).astype(np.float32)
        is_scale = tensor.paths[0].endswith("scale")
        arrays[tensor.name] = (
            np.float32(1) + np.float32(0.2) * noise if is_scale else np.float32(0.15) * noise
        )
    return arrays


@functools.cache
def ours(name, scans_layers=True):
    """Returns our model, its parameters, and the family."""
    return load(MODELS[name], arrays_of(name), scans_layers=scans_layers)


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
    """Returns a padded batch."""
    c = MODELS[name]
    rng = np.random.default_rng(0)
    inputs = rng.integers(5, VOCAB, (BATCH, INPUTS))
    input_mask = (np.arange(INPUTS) < np.array(NUM_INPUTS)[:, None]).astype(np.int64)
    eos = c.get("eos_token_id", 3)
    for row, length in enumerate(NUM_INPUTS):
        inputs[row, length - 1] = eos
    inputs[input_mask == 0] = c["pad_token_id"]
    features = {"encoder_input_tokens": inputs, "encoder_segment_ids": input_mask}
    config = ours(name)[0].config
    if not config.num_encoder_layers:
        features = {"decoder_input_tokens": inputs, "decoder_segment_ids": input_mask}
    elif config.num_decoder_layers and name in LANGUAGE_MODELS:
        targets = rng.integers(5, VOCAB, (BATCH, TARGETS))
        target_mask = (np.arange(TARGETS) < np.array(NUM_TARGETS)[:, None]).astype(np.int64)
        shifted = np.pad(targets, ((0, 0), (1, 0)), constant_values=c["decoder_start_token_id"])[:, :-1]
        shifted[target_mask == 0] = c["pad_token_id"]
        features |= {"decoder_input_tokens": shifted, "decoder_segment_ids": target_mask}
    elif config.num_decoder_layers:
        # The public classifiers of encoder-decoders read the same text twice, the second time shifted.
        shifted = np.pad(inputs, ((0, 0), (1, 0)), constant_values=c["decoder_start_token_id"])[:, :-1]
        features |= {"decoder_input_tokens": shifted, "decoder_segment_ids": input_mask}
    return {key: value.astype(np.int32) for key, value in features.items()}


@functools.cache
def vocabulary_of(name):
    """Returns a vocabulary for the public model, which has embeddings enough for it."""
    family = MODELS[name]["model_type"]
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
    return batch_of(name)[f"{config.last_stack}_segment_ids"] > 0
