"""BART base: text infilling of 30 % and shuffled sentences, rows of 512.

Data: English Wikipedia as the prepared TFDS data set; the paper adds books that are not to be had any more.
Command: t5like pretrain configs/bart_base.py --workdir DIR --vocabulary facebook/bart-base
Hardware and time: a TPU v5e-16; 0.83 s a step and 2.53 million tokens a second with padding, as `t5like plan` predicts
Expected: not measured here; the paper gives base-sized scores on its own data alone, such as 90.8 F1 on SQuAD 1.1 (Lewis et al. 2020, table 1).
"""

import dataclasses

from t5like.families.bart import bart
from t5like.objectives.bart_denoising import BartDenoising
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Linear
from t5like.pretrain import Pretrain


def get_config() -> Pretrain:
    """Returns the pretraining run of BART base."""
    return Pretrain(
        model=dataclasses.replace(
            bart("base"),
            compute_dtype="bfloat16",
            remat="full",
        ),
        objective=BartDenoising(length=512),
        data="tfds:wikipedia/20230601.en",
        vocabulary="facebook/bart-base",
        optimizer=AdamW(
            schedule=Linear(peak=4e-4, warmup_steps=10_000), b2=0.98, eps=1e-6, weight_decay=0.01
        ),
        num_steps=500_000,
        batch_size=2048,
        loss_chunks=16,
        log_every_steps=100,
        eval_every_steps=1000,
        checkpoint_every_steps=1000,
    )
