"""ByT5 small on mC4: bytes instead of pieces, spans of 20 bytes on average, rows of 1024.

Data: mC4 as the prepared TFDS data set c4/multilingual.
Command: t5like pretrain configs/byt5_small.py --workdir DIR
Hardware and time: a TPU v5e-64; 0.20 s a step and 6.17 million tokens a second with padding, as `t5like plan` predicts
Expected: not measured here; XNLI zero-shot 69.1 (Xue et al. 2022, table 3).
"""

import dataclasses

from t5like.families.t5 import byt5
from t5like.objectives.span_corruption import SpanCorruption
from t5like.optim.adafactor import Adafactor
from t5like.optim.schedules import InverseSquareRoot
from t5like.pretrain import Pretrain


def get_config() -> Pretrain:
    """Returns the pretraining run of ByT5 small."""
    return Pretrain(
        model=dataclasses.replace(
            byt5("small"),
            attention="flash",
            compute_dtype="bfloat16",
            remat="full",
        ),
        objective=SpanCorruption(inputs_length=1024, mean_span_length=20.0),
        data="tfds:c4/multilingual",
        vocabulary="bytes",
        optimizer=Adafactor(schedule=InverseSquareRoot(peak=0.01, warmup_steps=10_000)),
        num_steps=1_000_000,
        batch_size=1024,
        log_every_steps=100,
        eval_every_steps=1000,
        checkpoint_every_steps=1000,
    )
