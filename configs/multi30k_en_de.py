"""English captions into German: Multi30k from scratch, after configs/multi30k.py.

Data: the folder of Multi30k's files, train, val and test_2016_flickr, .en and .de.
Command: t5like finetune configs/multi30k_en_de.py --data_dir MULTI30K --init runs/multi30k --workdir runs/en_de
Hardware and time: 2 CPU cores, half an hour or so.
Expected: not measured yet.
"""

from t5like.finetune import Finetune
from t5like.objectives.text_to_text import TextToText
from t5like.optim.adafactor import Adafactor
from t5like.optim.schedules import Cosine


def get_config() -> Finetune:
    """Returns a run of eight epochs."""
    return Finetune(
        task="translation/multi30k_en_de",
        objective=TextToText(inputs_length=128, targets_length=128),
        optimizer=Adafactor(schedule=Cosine(peak=2e-2, warmup_steps=200)),
        label_smoothing=0.1,
        num_steps=3630,
        batch_size=64,
        log_every_steps=50,
        eval_every_steps=907,
        checkpoint_every_steps=907,
        max_eval_examples=200,
    )
