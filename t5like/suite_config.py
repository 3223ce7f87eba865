"""The fields of a benchmark: which model, on which tasks, and how it is fine-tuned."""

import dataclasses
from pathlib import Path

from t5like.errors import UserError
from t5like.mesh import MeshShape
from t5like.optim.base import require_positive
from t5like.phases import Deadlines
from t5like.sharding import AxisRules
from t5like.task_forms import Answering

COMMAND = "t5like benchmark"
TINY = "tiny"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Which model, on which tasks, and how it is fine-tuned; every task and seed is a run of its own, or every seed is."""

    init: str | None = None
    """Workdir of the run to start from, hf:FOLDER of a public model, or `tiny`: a small random one, for a trial."""
    data_dir: str | None = None
    """Folder of the suite's official files; None takes them from TFDS."""
    tasks: str | None = None
    """Names, such as cola,rte; None: all of the suite."""
    seeds: int = 3
    """Runs of each task, with the seeds 0, 1, ..."""
    mixture: bool = False
    """Have each run learn all the tasks at once, and keep for each task its best checkpoint; for encoder-decoders. The
    tasks have rows in proportion to their examples."""
    task_cap: int | None = None
    """Of a mixture: training examples that count for a task, in its share and in the length of an epoch, at most; None:
    all."""
    num_epochs: float = 3.0
    """Length of a run. It is measured after every epoch, and the best of these checkpoints is kept."""
    max_steps: int | None = None
    """Updates of a run, at most; None: as many as its epochs have."""
    max_train_examples: int | None = None
    """Training examples of a task, the first ones; None: all."""
    max_eval_examples: int | None = None
    """Examples of every other split, the first ones; None: all. With a limit there is no zip."""
    batch_size: int = 32
    """Rows in a batch."""
    inputs_length: int = 128
    """Tokens of an input that are read; the rest is cut off. T5 had 512 for SuperGLUE, whose passages are long."""
    targets_length: int = 16
    """Tokens of an answer, at most."""
    learning_rate: float | None = None
    """The peak; None: 5e-5 for an encoder, 1e-3 for an encoder-decoder. The former has AdamW, a tenth of warm-up and a
    linear descent, the latter Adafactor and a constant rate, as T5's."""
    dropout_rate: float = 0.1
    answers: Answering = "written"
    """Whether an encoder-decoder writes its answers or ranks the labels."""
    deadlines: Deadlines = Deadlines()
    mesh: MeshShape = MeshShape()
    rules: AxisRules = AxisRules()

    def __post_init__(self) -> None:
        require_positive(self, "seeds", "num_epochs", "batch_size")
        for name in ("task_cap", "max_steps", "max_train_examples", "max_eval_examples", "learning_rate"):
            if getattr(self, name) is not None:
                require_positive(self, name)
        if self.task_cap is not None and not self.mixture:
            raise UserError("--task_cap is for the shares of a mixture; give --mixture too, or leave it out.")

    @property
    def data_folder(self) -> Path | None:
        """Where the official files are, None for TFDS."""
        return Path(self.data_dir) if self.data_dir else None
