"""BERT base on Wikipedia: masked language modelling of 15 % and the order of sentences, rows of 512.

Data: English Wikipedia as the prepared TFDS data set; the paper adds books that are not to be had any more.
Command: t5like pretrain configs/bert_base.py --workdir DIR --vocabulary bert-base-uncased
Hardware and time: a TPU v5e-16; 0.08 s a step and 1.58 million tokens a second with padding, as `t5like plan` predicts
Expected: not measured here; GLUE average without WNLI 79.6 (Devlin et al. 2019, table 1).
"""

import dataclasses

from t5like.families.bert import bert
from t5like.objectives.masked_lm import MaskedLM
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Linear
from t5like.pretrain import Pretrain


def get_config() -> Pretrain:
    """Returns the pretraining run of BERT base."""
    return Pretrain(
        model=dataclasses.replace(
            bert("base"),
            compute_dtype="bfloat16",
            remat="full",
        ),
        objective=MaskedLM(length=512, second_text="next_sentence"),
        data="tfds:wikipedia/20230601.en",
        vocabulary="bert-base-uncased",
        optimizer=AdamW(schedule=Linear(peak=1e-4, warmup_steps=10_000), eps=1e-6, weight_decay=0.01),
        num_steps=1_000_000,
        batch_size=256,
        loss_chunks=4,
        log_every_steps=100,
        eval_every_steps=1000,
        checkpoint_every_steps=1000,
    )
