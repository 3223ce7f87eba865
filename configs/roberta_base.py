"""RoBERTa base: masked language modelling alone, large batches, rows of 512 cut out of all documents in a row.

Data: OpenWebText as a prepared TFDS data set, a quarter of the paper's text.
Command: t5like pretrain configs/roberta_base.py --workdir DIR --vocabulary roberta-base
Hardware and time: a TPU v5e-64; 0.65 s a step and 6.47 million tokens a second with padding, as `t5like plan` predicts
Expected: not measured here; GLUE MNLI 87.6, SST-2 94.8 (Liu et al. 2019; the public model card).
"""

import dataclasses

from t5like.families.roberta import roberta
from t5like.objectives.masked_lm import MaskedLM
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Linear
from t5like.pretrain import Pretrain


def get_config() -> Pretrain:
    """Returns the pretraining run of RoBERTa base."""
    return Pretrain(
        model=dataclasses.replace(
            roberta("base"),
            compute_dtype="bfloat16",
            remat="full",
        ),
        objective=MaskedLM(length=512),
        data="tfds:openwebtext",
        vocabulary="roberta-base",
        optimizer=AdamW(
            schedule=Linear(peak=6e-4, warmup_steps=24_000), b2=0.98, eps=1e-6, weight_decay=0.01
        ),
        num_steps=500_000,
        batch_size=8192,
        loss_chunks=16,
        log_every_steps=100,
        eval_every_steps=1000,
        checkpoint_every_steps=1000,
    )
