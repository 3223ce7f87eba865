"""Fine-tune an encoder with a head on a classification task, as BERT's paper does: AdamW, a few epochs, a small rate.

Data: the official files of GLUE; name the task with --task, the model with --init and the data with --data_dir.
Command: t5like finetune configs/finetune_encoder.py --task glue/mrpc --data_dir GLUE --init hf:MINILM --workdir DIR
Hardware and time: 2 CPU cores, 7 minutes for MiniLM-L6 on MRPC.
Expected: depends on the model; with MiniLM-L6 as a sentence encoder, F1 86 % and accuracy 79 % on MRPC with one seed.
"""

from t5like.finetune import Finetune
from t5like.objectives.text_to_text import TextToText
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Linear


def get_config() -> Finetune:
    """Returns the fine-tuning run of an encoder; 345 steps are three epochs of MRPC."""
    return Finetune(
        objective=TextToText(inputs_length=128, targets_length=16),
        optimizer=AdamW(schedule=Linear(peak=5e-5, warmup_steps=34), weight_decay=0.01),
        num_steps=345,
        batch_size=32,
        eval_every_steps=115,
        checkpoint_every_steps=115,
    )
