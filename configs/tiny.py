"""The smallest run that shows every part working: a few seconds on any laptop.

Data: the text that comes with Python.
Command: t5like pretrain configs/tiny.py --workdir runs/tiny
Hardware and time: 2 CPU cores, well under a minute after compiling.
Expected: the loss falls; nothing more is meant.
"""

from t5like.models.config import TransformerConfig
from t5like.objectives.span_corruption import SpanCorruption
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Cosine
from t5like.pretrain import Pretrain


def get_config() -> Pretrain:
    """Returns the tiny pretraining run."""
    return Pretrain(
        model=TransformerConfig(
            embed_dim=64, num_heads=4, head_dim=16, mlp_dim=128, num_encoder_layers=2, num_decoder_layers=2
        ),
        objective=SpanCorruption(inputs_length=64),
        vocabulary_size=1024,
        optimizer=AdamW(schedule=Cosine(peak=3e-3, warmup_steps=10)),
        num_steps=60,
        batch_size=16,
        log_every_steps=5,
        eval_every_steps=30,
        checkpoint_every_steps=30,
        max_eval_rows=64,
    )
