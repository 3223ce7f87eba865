"""What `--init` names: a workdir of ours or a public checkpoint, both used the same way."""

import dataclasses
from pathlib import Path

from t5like.errors import UserError
from t5like.models.config import Head
from t5like.public_model import PublicModel, load_public_model
from t5like.workdir import TrainedModel, load_workdir

Init = TrainedModel | PublicModel
"""Both have `origin`, `config`, `vocabulary`, `step` and `restore`."""

PUBLIC_PREFIX = "hf:"
ZERO_BIAS = "final_logits_bias"  # of BART: zeros where a checkpoint leaves it out


def load_model(
    init: str, *, encoder_head: Head | None = None, num_labels: int = 0, label_names: tuple[str, ...] = ()
) -> Init:
    """Returns the newest model of a workdir, or with `hf:` before it the one in a folder of Hugging Face's layout.

    Args:
      encoder_head: what an encoder alone is to be used for, drawn anew where it has another head; None, and other
        models, keep their own. A public checkpoint that holds such a head keeps it, whatever its labels.
      num_labels: labels of a head that is drawn.
      label_names: what they are called; a run's head for other labels is another head.

    Raises:
      UserError: there is none, or its files are damaged or do not fit.
    """
    if not init.startswith(PUBLIC_PREFIX):
        workdir = load_workdir(Path(init))
        if workdir.config.num_decoder_layers:
            return workdir
        return workdir.with_head(encoder_head, num_labels, label_names)
    # The shell leaves a tilde after a colon alone.
    folder = Path(init.removeprefix(PUBLIC_PREFIX)).expanduser()
    model = load_public_model(folder)
    if encoder_head is not None and not model.config.num_decoder_layers:
        own = load_public_model(folder, head=encoder_head)
        if not own.has_new_head:
            return own
        other = load_public_model(folder, head=encoder_head, num_labels=num_labels)
        return dataclasses.replace(other, config=dataclasses.replace(other.config, label_names=label_names))
    drawn = [
        line.public for line in model.plan.lines if line.fate == "initialised" and line.public != ZERO_BIAS
    ]
    if drawn:
        raise UserError(
            f"{folder} lacks {drawn[0]}, without which its {model.config.head} would say what chance has it say; "
            "t5like convert draws it anew, for training."
        )
    return model
