"""UL2 at the size of T5 1.1 base on C4: a mixture of denoisers, one of them a prefix language model.

Data: C4 as a prepared TFDS data set (array_record); preparing it takes Apache Beam once, elsewhere.
Command: t5like pretrain configs/ul2_base.py --workdir DIR --vocabulary t5/spiece.model
Hardware and time: a TPU v5e-16; 0.08 s a step and 1.72 million tokens a second with padding, as `t5like plan` predicts
Expected: not measured here; Tay et al. 2023 give 66.1 on SuperGLUE at this size, after fine-tuning on its mixture.
"""

import dataclasses

from t5like.families.t5 import t5_1_1
from t5like.objectives.ul2 import UL2
from t5like.optim.adafactor import Adafactor
from t5like.optim.schedules import InverseSquareRoot
from t5like.pretrain import Pretrain


def get_config() -> Pretrain:
    """Returns the pretraining run of a base-sized UL2."""
    return Pretrain(
        model=dataclasses.replace(
            t5_1_1("base"),
            mlp_activations=("silu", "linear"),
            attention="flash",
            compute_dtype="bfloat16",
            remat="full",
        ),
        objective=UL2(inputs_length=512),
        data="tfds:c4/en",
        vocabulary="t5/spiece.model",
        optimizer=Adafactor(schedule=InverseSquareRoot(peak=0.01, warmup_steps=10_000)),
        num_steps=500_000,
        batch_size=128,
        vocabulary_extra_ids=128,  # short spans of half the text need more than 100 sentinels
        log_every_steps=100,
        eval_every_steps=1000,
        checkpoint_every_steps=1000,
    )
