"""A small T5 (gated GELU, tied head) with T5's own vocabulary on some 16 MB of books, within half an hour on two CPU cores.

Data: name yours; plain text, one document a file. The figures are for 36 books of 1925 and earlier, 5 held out.
Command: t5like pretrain configs/books_cpu.py --workdir runs/books --data BOOKS/train --validation_data BOOKS/valid
         --vocabulary t5/spiece.model
Hardware and time: 2 CPU cores, 12 minutes.
Expected: held-out nats per token 4.61; the unigram entropy of the same tokens is 5.54, a 5-gram model gives 5.14.
"""

from t5like.models.config import TransformerConfig
from t5like.objectives.span_corruption import SpanCorruption
from t5like.optim.adafactor import Adafactor
from t5like.optim.schedules import Cosine
from t5like.pretrain import Pretrain


def get_config() -> Pretrain:
    """Returns the pretraining run on books."""
    return Pretrain(
        model=TransformerConfig(
            embed_dim=256,
            num_heads=4,
            head_dim=64,
            mlp_dim=512,
            num_encoder_layers=2,
            num_decoder_layers=2,
            num_embeddings=32128,
            head_is_tied=True,
            scans_layers=False,
        ),
        objective=SpanCorruption(inputs_length=128),
        data="books/train",
        validation_data="books/valid",
        vocabulary="t5/spiece.model",
        optimizer=Adafactor(schedule=Cosine(peak=2e-2, warmup_steps=50)),
        num_steps=1000,
        batch_size=32,
        log_every_steps=25,
        eval_every_steps=250,
        checkpoint_every_steps=250,
        max_eval_rows=512,
    )
