"""The smallest run of an encoder alone: BERT's layers and objective, pairs of texts included, a few seconds on any laptop.

Data: the text that comes with Python; for a real run, name BERT's vocabulary as well.
Command: t5like pretrain configs/tiny_bert.py --workdir runs/tiny_bert
Hardware and time: 2 CPU cores, well under a minute after compiling.
Expected: the loss falls; nothing more is meant.
"""

import dataclasses

from t5like.families.bert import bert
from t5like.objectives.masked_lm import MaskedLM
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Cosine
from t5like.pretrain import Pretrain


def get_config() -> Pretrain:
    """Returns the tiny run of BERT."""
    return Pretrain(
        model=dataclasses.replace(
            bert("tiny"),
            embed_dim=64,
            num_heads=4,
            head_dim=16,
            mlp_dim=256,
            num_positions=64,
            num_embeddings=None,
            dropout_rate=0.0,
        ),
        objective=MaskedLM(length=64, whole_word=True, second_text="next_sentence"),
        vocabulary_size=1024,
        optimizer=AdamW(schedule=Cosine(peak=3e-3, warmup_steps=10)),
        num_steps=60,
        batch_size=16,
        log_every_steps=5,
        eval_every_steps=30,
        checkpoint_every_steps=30,
        max_eval_rows=64,
    )
