"""Runs every test on eight virtual CPU devices, compiles in a tenth of the usual time, and gives what tests share.

That is random batches, and small runs that a whole session trains once: `pretrained` and `finetuned`.
"""

import importlib.metadata
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t5like.batch import Features, encoder_decoder_row
from tests.made_up_text import write_sst2, write_text

# A runner in the background is started deaf to Ctrl-C, and so would be every process the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Before anything imports jax, which reads these once. A mesh test needs several devices; the others do not mind.
os.environ["JAX_PLATFORMS"] = "cpu"
flags = [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8"]
# Tests run small programs a few times: compiling them well costs far more than running them badly.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
if importlib.metadata.version("jaxlib") < "0.11":  # later ones do not know the flag, and end the process
    flags.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join(flags).strip()

# What one of the session's processes compiles, the others need not: those of pytest-xdist, and those that tests start.
_COMPILED = "JAX_COMPILATION_CACHE_DIR"
_made_folder = None
if _COMPILED not in os.environ:
    os.environ[_COMPILED] = _made_folder = tempfile.mkdtemp(prefix="t5like-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

RandomBatch = Callable[..., Features]

# The last file that is begun keeps one of two processes waiting for the other.
_BEGUN_FIRST = (
    *("test_end_to_end.py", "test_reliability.py", "test_runs.py", "test_babysit.py", "test_resume.py"),
    *("test_guard.py", "test_attention_memory.py", "test_benchmark.py", "test_no_tensorflow.py"),
)


def pytest_unconfigure() -> None:
    """Removes what the session compiled."""
    if _made_folder is not None:
        shutil.rmtree(_made_folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the files that take longest; `--no-loadscope-reorder` lets pytest-xdist keep to that."""
    places = {name: place for place, name in enumerate(_BEGUN_FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="module", autouse=True)
def few_programs() -> Iterator[None]:
    """Lets go of a file's compiled programs: a process may map 65,530 areas of memory, which all tests would use up."""
    yield
    if "jax" in sys.modules:
        import jax

        jax.clear_caches()


@pytest.fixture(scope="session")
def random_batch() -> RandomBatch:
    """Returns a function from the real lengths of each row to a batch of random ids."""

    def build(
        rows: Sequence[tuple[int, int]],
        *,
        inputs_length: int = 10,
        targets_length: int = 8,
        vocab: int = 40,
        seed: int = 0,
    ) -> Features:
        """Returns one row for each (number of inputs, number of targets), with ids in [2, vocab)."""
        rng = np.random.default_rng(seed)
        laid_out = [
            encoder_decoder_row(
                rng.integers(2, vocab, num_inputs),
                rng.integers(2, vocab, num_targets),
                inputs_length=inputs_length,
                targets_length=targets_length,
            )
            for num_inputs, num_targets in rows
        ]
        return {name: np.stack([row[name] for row in laid_out]) for name in laid_out[0]}

    return build


@pytest.fixture(scope="session")
def small_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of made-up text, text/, and made-up GLUE files, glue/SST-2/."""
    folder = tmp_path_factory.mktemp("small")
    write_text(folder / "text")
    write_sst2(folder / "glue", train=30, dev=10)
    return folder


@pytest.fixture(scope="session")
def small_pretrain(small_text: Path) -> Any:
    """A `Pretrain` of a few seconds, with dropout, checkpoints every 4 steps and evaluations every 6; 12 in all."""
    from t5like.models.config import TransformerConfig
    from t5like.objectives.span_corruption import SpanCorruption
    from t5like.optim.adamw import AdamW
    from t5like.optim.schedules import Constant
    from t5like.pretrain import Pretrain

    model = TransformerConfig(
        embed_dim=16,
        num_heads=2,
        head_dim=8,
        mlp_dim=32,
        num_encoder_layers=1,
        num_decoder_layers=1,
        dropout_rate=0.1,
        scans_layers=False,  # quicker to trace
    )
    return Pretrain(
        model=model,
        objective=SpanCorruption(inputs_length=24),
        data=str(small_text / "text"),
        vocabulary_size=300,
        optimizer=AdamW(schedule=Constant(peak=1e-2)),
        num_steps=12,
        batch_size=8,
        log_every_steps=3,
        eval_every_steps=6,
        checkpoint_every_steps=4,
        max_eval_rows=8,
    )


@pytest.fixture(scope="session")
def pretrained(small_pretrain: Any, small_text: Path) -> Path:
    """The finished workdir of `small_pretrain`; to be read only."""
    from t5like.pretrain import pretrain

    pretrain(small_pretrain, small_text / "pretrained")
    return small_text / "pretrained"


@pytest.fixture(scope="session")
def small_finetune(pretrained: Path, small_text: Path) -> Any:
    """A `Finetune` from `pretrained`, with dropout."""
    from t5like.finetune import Finetune
    from t5like.objectives.text_to_text import TextToText
    from t5like.optim.adamw import AdamW
    from t5like.optim.schedules import Constant

    return Finetune(
        task="glue/sst2",
        init=str(pretrained),
        data_dir=str(small_text / "glue"),
        objective=TextToText(inputs_length=24, targets_length=4),
        dropout_rate=0.2,
        optimizer=AdamW(schedule=Constant(peak=1e-2)),
        num_steps=9,
        batch_size=8,
        log_every_steps=2,
        eval_every_steps=6,
        checkpoint_every_steps=4,
    )


@pytest.fixture(scope="session")
def finetuned(small_finetune: Any, small_text: Path) -> Path:
    """The finished workdir of `small_finetune`; to be read only."""
    from t5like.finetune import finetune

    finetune(small_finetune, small_text / "finetuned")
    return small_text / "finetuned"
