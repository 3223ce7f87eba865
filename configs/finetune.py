"""Fine-tuning on any task, from any run; what launch-day users change is on the command line.

Data: the task's official files in --data_dir, or TFDS.
Command: t5like finetune configs/finetune.py --task glue/sst2 --data_dir GLUE --init runs/books --workdir runs/sst2
Hardware and time: from minutes on 2 CPU cores for a small model to a TPU slice for a large one.
Expected: depends on the model; see README, Results, for those that were measured. The peak suits small models trained
          here; a released T5 is fine-tuned with --optimizer.schedule.peak 1e-3.
"""

from t5like.finetune import Finetune
from t5like.objectives.text_to_text import TextToText
from t5like.optim.adafactor import Adafactor
from t5like.optim.schedules import Linear


def get_config() -> Finetune:
    """Returns a fine-tuning run that lacks its task and its starting point."""
    return Finetune(
        objective=TextToText(inputs_length=128, targets_length=16),
        optimizer=Adafactor(schedule=Linear(peak=1e-2, warmup_steps=50)),
        num_steps=2000,
        batch_size=32,
        eval_every_steps=500,
        checkpoint_every_steps=500,
    )
