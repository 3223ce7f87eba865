"""A T5 of four layers and a joint vocabulary of 6,000 pieces for English and German, from the sentences of Multi30k alone.

Data: the training files of Multi30k, train.en and train.de, a folder with nothing else in it.
Command: t5like pretrain configs/multi30k.py --data "MULTI30K/train.*" --workdir runs/multi30k
Hardware and time: one CPU core, two minutes; it makes the vocabulary, and a first idea of both languages.
Expected: the start of configs/multi30k_en_de.py, which has the figures.
"""

from t5like.models.config import TransformerConfig
from t5like.objectives.span_corruption import SpanCorruption
from t5like.optim.adafactor import Adafactor
from t5like.optim.schedules import Cosine
from t5like.pretrain import Pretrain


def get_config() -> Pretrain:
    """Returns the pretraining run on captions."""
    return Pretrain(
        model=TransformerConfig(
            embed_dim=256,
            num_heads=4,
            head_dim=64,
            mlp_dim=512,
            num_encoder_layers=2,
            num_decoder_layers=2,
            head_is_tied=True,
            scans_layers=False,
        ),
        objective=SpanCorruption(inputs_length=128),
        data="multi30k/train.*",
        vocabulary_size=6000,
        optimizer=Adafactor(schedule=Cosine(peak=2e-2, warmup_steps=50)),
        num_steps=100,
        batch_size=32,
        log_every_steps=25,
        eval_every_steps=100,
        checkpoint_every_steps=100,
    )
