"""GPT-2 small: a causal language model on web text, rows of 1024.

Data: OpenWebText as a prepared TFDS data set, which follows the recipe of the unreleased WebText.
Command: t5like pretrain configs/gpt2_small.py --workdir DIR --vocabulary gpt2
Hardware and time: a TPU v5e-16; 0.42 s a step and 1.24 million tokens a second with padding, as `t5like plan` predicts
Expected: not measured here; WikiText-2 perplexity 29.4 without training on it (Radford et al. 2019, table 3).
"""

import dataclasses

from t5like.families.gpt2 import gpt2
from t5like.objectives.causal_lm import CausalLM
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Cosine
from t5like.pretrain import Pretrain


def get_config() -> Pretrain:
    """Returns the pretraining run of GPT-2 small."""
    return Pretrain(
        model=dataclasses.replace(
            gpt2("small"),
            compute_dtype="bfloat16",
            remat="full",
        ),
        objective=CausalLM(length=1024),
        data="tfds:openwebtext",
        vocabulary="gpt2",
        optimizer=AdamW(schedule=Cosine(peak=6e-4, warmup_steps=2_000, end=6e-5), b2=0.95, weight_decay=0.1),
        num_steps=300_000,
        batch_size=512,
        loss_chunks=8,
        log_every_steps=100,
        eval_every_steps=1000,
        checkpoint_every_steps=1000,
    )
