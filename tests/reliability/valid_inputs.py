"""Small valid inputs of every kind that a command reads, of made-up text and tiny models with random weights."""

import contextlib
import itertools
import json
import os
import pathlib
import random
import shutil
import zipfile

import numpy as np

from t5like.config import load_config_file
from t5like.pretrain import Pretrain, pretrain
from tests.tasks import super_glue_rows, test_winogender
from tests.tiny_models import ours, vocabulary_of

_RNG = random.Random(0)
_WORDS = ["".join(_RNG.choices("abcdefghijklmnop", k=_RNG.randint(2, 6))) for _ in range(300)]
TEXTS = [" ".join(_RNG.choices(_WORDS, k=40)) for _ in range(80)]

CONFIG = '''"""A tiny run."""

from t5like.models.config import TransformerConfig
from t5like.objectives.span_corruption import SpanCorruption
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Constant
from t5like.pretrain import Pretrain


def get_config():
    """Returns the run."""
    return Pretrain(
        model=TransformerConfig(
            embed_dim=16,
            num_heads=2,
            head_dim=8,
            mlp_dim=32,
            num_encoder_layers=1,
            num_decoder_layers=1,
            scans_layers=False,
        ),
        objective=SpanCorruption(inputs_length=24),
        vocabulary="bytes",
        optimizer=AdamW(schedule=Constant(peak=1e-2)),
        num_steps=2,
        batch_size=8,
        max_eval_rows=8,
    )
'''


def write_config(folder: pathlib.Path) -> None:
    """Writes a config file and a folder of text."""
    (folder / "tiny.py").write_text(CONFIG)
    write_text(folder)


def write_text(folder: pathlib.Path) -> None:
    """Writes files of plain text."""
    (folder / "text").mkdir()
    for number in range(4):
        (folder / "text" / f"{number}.txt").write_text("\n".join(TEXTS[number::4]))


def write_run(folder: pathlib.Path) -> None:
    """Trains the run of folder/again.py, with one checkpoint, in folder/run."""
    write_text(folder)
    more = f"""        data={str(folder / "text")!r},
        num_checkpoints_kept=1,
        checkpoint_every_steps=2,
        log_every_steps=1,
        eval_every_steps=2,
        audits_examples=True,
    )
"""
    (folder / "again.py").write_text(CONFIG.removesuffix("    )\n") + more)
    pretrain(load_config_file(folder / "again.py", Pretrain), folder / "run")


def write_public(folder: pathlib.Path, name: str) -> None:
    """Writes a model of tests/tiny_models.py in Hugging Face's layout."""
    from t5like.public_model import save_public_model

    transformer, params, _ = ours(name)
    save_public_model(folder, transformer.config, vocabulary_of(name), params)


def write_shards(folder: pathlib.Path, name: str) -> None:
    """Writes one in three shards and their index."""
    from t5like.weights import open_weights
    from t5like.weights.safetensors_writer import write_safetensors

    write_public(folder, name)
    with open_weights(folder) as source:
        arrays = {tensor: source.read(tensor) for tensor in source.tensors}
    (folder / "model.safetensors").unlink()
    half = sum(array.nbytes for array in arrays.values()) // 2
    tensors = [(key, array.shape, array.dtype, lambda array=array: array) for key, array in arrays.items()]
    write_safetensors(folder, tensors, max_shard_bytes=half)


def write_torch(folder: pathlib.Path, name: str) -> None:
    """Writes one with its arrays as PyTorch saves them."""
    import torch

    from t5like.weights import open_weights

    write_public(folder, name)
    with open_weights(folder) as source:
        state = {tensor: torch.from_numpy(source.read(tensor)) for tensor in source.tensors}
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")


def write_t5x(folder: pathlib.Path, *, is_orbax: bool) -> None:
    """Writes a T5 1.1 as T5X or Orbax lays it out in folder/from, and its vocabulary."""
    from flax import serialization, traverse_util

    from t5like.families.t5x import T5X
    from t5like.interchange import export_arrays

    transformer, params, _ = ours("t5-1.1")
    arrays = {
        name: make()
        for name, _, _, make in export_arrays(T5X, transformer.config, params, np.dtype(np.float32))
    }
    more = 192 - len(arrays["token_embedder/embedding"])  # 40 pieces and 100 sentinels
    arrays["token_embedder/embedding"] = np.pad(arrays["token_embedder/embedding"], ((0, more), (0, 0)))
    arrays["decoder/logits_dense/kernel"] = np.pad(arrays["decoder/logits_dense/kernel"], ((0, 0), (0, more)))
    tree = traverse_util.unflatten_dict(arrays, sep="/")
    if is_orbax:
        import orbax.checkpoint as ocp

        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            checkpointer.save((folder / "from").absolute(), {"target": tree})
    else:
        (folder / "from").mkdir()
        packed = serialization.msgpack_serialize({"version": 3, "optimizer": {"target": tree, "state": {}}})
        (folder / "from" / "checkpoint").write_bytes(packed)
    vocabulary_of("t5-1.1").save(folder / "vocabulary")


def write_vocabularies(folder: pathlib.Path) -> None:
    """Writes our vocabularies and public ones, of every kind."""
    from t5like.data.vocabulary import save_public_vocabulary, save_vocabulary

    for name, model_type in (("t5-1.1", "t5"), ("bert", "bert"), ("gpt2", "gpt2"), ("bart", "bart")):
        vocabulary = vocabulary_of(name)
        save_vocabulary(vocabulary, folder / f"own-{model_type}")
        (folder / f"public-{model_type}").mkdir()
        save_public_vocabulary(vocabulary, folder / f"public-{model_type}", model_type, 20)
        (folder / f"public-{model_type}" / "config.json").write_text(json.dumps({"model_type": model_type}))
    shutil.copyfile(folder / "own-t5" / "spiece.model", folder / "alone.model")


def write_tfds(folder: pathlib.Path) -> None:
    """Prepares the data set `stories` of TFDS."""
    import tensorflow_datasets as tfds

    class Stories(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        name = "stories"

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict({"text": tfds.features.Text()})
            )

        def _split_generators(self, download_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from enumerate({"text": text} for text in TEXTS)

    tfds.disable_progress_bar()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        Stories(data_dir=folder).download_and_prepare(file_format="array_record")


def write_glue(folder: pathlib.Path) -> None:
    """Writes files of four tasks of GLUE."""
    pair = "index\tsentence1\tsentence2"
    columns = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore"
    files = {
        "RTE": [
            f"{pair}\tlabel",
            *(f"{i}\t{TEXTS[i][:20]}\tb {i}\t{('entailment', 'not_entailment')[i % 2]}" for i in range(6)),
        ],
        "SST-2": ["sentence\tlabel", *(f"{TEXTS[i][:20]}\t{i % 2}" for i in range(6))],
        "CoLA": [f"src\t{i % 2}\t{'*'[i % 2 :]}\t{TEXTS[i][:20]}" for i in range(6)],
        "STS-B": [
            columns,
            *(f"{i}\tg\tf\t2020\t{i}\ts\ts\t{TEXTS[i][:20]}\tb\t{i / 2:.3f}" for i in range(6)),
        ],
    }
    for name, lines in files.items():
        (folder / name).mkdir()
        for split in ("train", "dev"):
            (folder / name / f"{split}.tsv").write_text("\n".join(lines) + "\n")


def write_super_glue(folder: pathlib.Path) -> None:
    """Writes files of all tasks of SuperGLUE."""
    for name in super_glue_rows.ROWS:
        file = "test.jsonl" if name in ("axb", "axg") else "val.jsonl"
        super_glue_rows.write(folder, name, file)


def write_squad(folder: pathlib.Path) -> None:
    """Writes questions in SQuAD's layout, and a tagged text, parallel text, tables, summaries and Winogender."""
    qas = [
        {
            "id": f"q{i}",
            "question": f"Who {i}?",
            "answers": [{"text": "Ada", "answer_start": 0}],
            "is_impossible": False,
        }
        for i in range(3)
    ]
    qas.append({"id": "q9", "question": "Why?", "answers": [], "is_impossible": True})
    data = {"version": "v2.0", "data": [{"title": "A", "paragraphs": [{"context": "Ada left.", "qas": qas}]}]}
    for split in ("train", "dev"):
        (folder / f"{split}-v2.0.json").write_text(json.dumps(data))


def write_conll(folder: pathlib.Path) -> None:
    """Writes tagged words."""
    for split in ("train", "valid"):
        lines = [
            f"{word}\tX\t{tag}" for word, tag in zip(_WORDS[:12], itertools.cycle(("B-A", "I-A", "O", "B-B")))
        ]
        lines[6:6] = ["", "-DOCSTART-\tX\tO", ""]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")


def write_tables(folder: pathlib.Path) -> None:
    """Writes tables of a text and a topic, of each form."""
    for split, rows in (("train", range(12)), ("dev", range(4))):
        pairs = [(TEXTS[i][:30], ("sport", "arts, and so on")[i % 2]) for i in rows]
        (folder / f"{split}.csv").write_text("title,topic\n" + "".join(f'"{a}","{b}"\n' for a, b in pairs))
        (folder / f"{split}.tsv").write_text("title\ttopic\n" + "".join(f"{a}\t{b}\n" for a, b in pairs))
        lines = [json.dumps({"title": a, "topic": b}) for a, b in pairs]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


def write_pairs(folder: pathlib.Path) -> None:
    """Writes parallel text, summaries and Winogender."""
    for split in ("train", "val"):
        for code in ("en", "de"):
            (folder / f"{split}.{code}").write_text("\n".join(text[:20] for text in TEXTS[:6]) + "\n")
    rows = [{"article": text, "highlights": text[:20]} for text in TEXTS[:12]]
    (folder / "summaries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "winogender").mkdir()
    test_winogender.write(folder / "winogender")


TASK = '''"""A task."""

from t5like.tasks.base import Example, Task
from t5like.tasks.metrics import ACCURACY

LABELS = ("negative", "positive")


def read(split, data_dir):
    """Returns the examples of a split."""
    texts = {"train": [("fine", 1), ("dull", 0)], "validation": [("good", 1), ("bad", 0)]}[split]
    return [
        Example(index=i, inputs=f"mood: {text}", targets=LABELS[label], texts=(text,), answer=label)
        for i, (text, label) in enumerate(texts)
    ]


TASK = Task(name="my/mood", labels=LABELS, metrics=(ACCURACY,), splits=("train", "validation"), read=read)
'''


def write_submission_zip(folder: pathlib.Path) -> None:
    """Writes a zip for SuperGLUE's leaderboard with the majority class everywhere."""
    from t5like.tasks.submission import write_submission
    from t5like.tasks.suites import SUITES

    suite = next(suite for suite in SUITES if suite.name == "super_glue")
    write_submission(suite, {}, folder / "whole.zip", fills_missing=True)
    with zipfile.ZipFile(folder / "whole.zip") as whole, zipfile.ZipFile(folder / "names.zip", "w") as names:
        for name in whole.namelist():
            names.writestr(f"../{name}", whole.read(name)[:50])
