"""What a pretrained model makes of a few held-out rows, for people to read."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from t5like.batch import Features, without_ids
from t5like.data.pipeline import evaluation_batches
from t5like.data.vocabulary import Vocabulary
from t5like.distributed import fetch
from t5like.generation import Writer, prompt_rows
from t5like.models.transformer import Transformer
from t5like.scores import Sample
from t5like.sharding import put_batch
from t5like.task_evaluation import NUM_SAMPLES
from t5like.task_forms import answer_writer

PyTree = Any


def pretraining_samples(
    model: Transformer,
    params: PyTree,
    rows: Sequence[Features],
    *,
    vocabulary: Vocabulary,
    sharding: NamedSharding,
) -> list[Sample]:
    """Returns samples of the first few rows.

    An encoder-decoder writes the targets, an encoder fills in what is masked, and a decoder goes on from the first half
    of the row.
    """
    rows = rows[:NUM_SAMPLES]
    num_rows = sharding.mesh.size * -(-len(rows) // sharding.mesh.size)  # what the devices can split evenly
    batch = next(iter(evaluation_batches(rows, batch_size=num_rows)))
    if not model.config.num_decoder_layers:
        return _filled(model, params, rows, batch, vocabulary, sharding)
    if not model.config.num_encoder_layers:
        return _continued(model, params, rows, num_rows, vocabulary, sharding)
    prepare, write, read = answer_writer(model, vocabulary, batch["decoder_target_tokens"].shape[1])
    predictions = read(fetch(write(prepare(params), put_batch(without_ids(batch), sharding))))
    return [
        Sample(
            inputs=vocabulary.decode(row["encoder_input_tokens"]),
            targets=vocabulary.decode(row["decoder_target_tokens"]),
            prediction=prediction,
        )
        for row, prediction in zip(rows, predictions, strict=False)
    ]


def _filled(
    model: Transformer,
    params: PyTree,
    rows: Sequence[Features],
    batch: Features,
    vocabulary: Vocabulary,
    sharding: NamedSharding,
) -> list[Sample]:
    logits = jax.jit(lambda p, b: model.apply({"params": p}, b))(
        params, put_batch(without_ids(batch), sharding)
    )
    likeliest = np.asarray(fetch(logits))[..., : vocabulary.num_tokens].argmax(axis=-1)
    samples = []
    for row, guesses in zip(rows, likeliest, strict=False):
        is_real, is_asked = row["encoder_segment_ids"] > 0, row["encoder_loss_weights"] > 0
        inputs = row["encoder_input_tokens"]
        texts = [
            vocabulary.decode_all(np.where(is_asked, answer, inputs)[is_real])
            for answer in (inputs, row["encoder_target_tokens"], guesses)
        ]
        samples.append(Sample(inputs=texts[0], targets=texts[1], prediction=texts[2]))
    return samples


def _continued(
    model: Transformer,
    params: PyTree,
    rows: Sequence[Features],
    num_rows: int,
    vocabulary: Vocabulary,
    sharding: NamedSharding,
) -> list[Sample]:
    length = len(rows[0]["decoder_input_tokens"])
    prompts, rests = [], []
    for row in rows:
        is_real = row["decoder_segment_ids"] > 0
        half = max(1, int(is_real.sum()) // 2)
        prompts.append(row["decoder_input_tokens"][is_real][:half])
        rests.append(row["decoder_target_tokens"][is_real][half - 1 :])
    prompts += [np.zeros(0, np.int32)] * (num_rows - len(rows))
    pad_id = vocabulary.special_tokens.pad_id
    batch = prompt_rows(prompts, -(-length // 2), pad_id=pad_id)
    writer = Writer(
        model,
        vocabulary.special_tokens,
        num_tokens=vocabulary.num_tokens,
        max_length=length - -(-length // 2),
    )
    answers = fetch(writer(writer.prepare(params), put_batch(batch, sharding)).tokens)[:, 0]
    return [
        Sample(
            inputs=vocabulary.decode_all(prompt),
            targets=vocabulary.decode_all(rest),
            prediction=vocabulary.decode(answer),
        )
        for prompt, rest, answer in zip(prompts, rests, answers, strict=False)
    ]
