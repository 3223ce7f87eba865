"""The smallest run of BART: its layers and its way of spoiling a text, a few seconds on any laptop.

Data: the text that comes with Python; for a real run, name BART's vocabulary as well.
Command: t5like pretrain configs/tiny_bart.py --workdir runs/tiny_bart
Hardware and time: 2 CPU cores, well under a minute after compiling.
Expected: the loss falls; nothing more is meant.
"""

import dataclasses

from t5like.families.bart import bart
from t5like.objectives.bart_denoising import BartDenoising
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Cosine
from t5like.pretrain import Pretrain


def get_config() -> Pretrain:
    """Returns the tiny run of BART."""
    return Pretrain(
        model=dataclasses.replace(
            bart("base"),
            embed_dim=64,
            num_heads=4,
            head_dim=16,
            mlp_dim=256,
            num_encoder_layers=2,
            num_decoder_layers=2,
            num_positions=66,
            num_embeddings=None,
            dropout_rate=0.0,
        ),
        objective=BartDenoising(length=64),
        vocabulary_size=1024,
        optimizer=AdamW(schedule=Cosine(peak=3e-3, warmup_steps=10)),
        num_steps=60,
        batch_size=16,
        log_every_steps=5,
        eval_every_steps=30,
        checkpoint_every_steps=30,
        max_eval_rows=64,
    )
