"""English captions into German: Multi30k from scratch, after configs/multi30k.py.

Data: the folder of Multi30k's files, train, val and test_2016_flickr, .en and .de.
Command: t5like finetune configs/multi30k_en_de.py --data_dir MULTI30K --init runs/multi30k --workdir runs/en_de
Hardware and time: one CPU core, 55 minutes beside other work on the machine.
Expected: BLEU 27.4, 32.2, 35.8, 36.5 on 200 validation pairs after 2, 4, 6, 8 epochs; on the test set of 2016 BLEU 36.6 and
  chrF 61.1, by t5like evaluate --init runs/en_de --task translation/multi30k_en_de --data_dir MULTI30K --split test.
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
        num_steps=3628,
        batch_size=64,
        log_every_steps=50,
        eval_every_steps=907,
        checkpoint_every_steps=907,
        max_eval_examples=200,
    )
