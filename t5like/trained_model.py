"""What `--init` names: a workdir of ours or a public checkpoint, both used the same way."""

from pathlib import Path

from t5like.public_model import PublicModel, load_public_model
from t5like.workdir import TrainedModel, load_workdir

Init = TrainedModel | PublicModel
"""Both have `origin`, `config`, `vocabulary`, `step` and `restore`."""

PUBLIC_PREFIX = "hf:"


def load_model(init: str) -> Init:
    """Returns the newest model of a workdir, or with `hf:` before it the one in a folder of Hugging Face's layout.

    Raises:
      UserError: there is none, or its files are damaged or do not fit.
    """
    if init.startswith(PUBLIC_PREFIX):
        return load_public_model(Path(init.removeprefix(PUBLIC_PREFIX)))
    return load_workdir(Path(init))
