"""Our train step as `t5like pretrain` and `t5like finetune` compile it, on one batch that stays where it is."""

from typing import Any

import batches
import jax
import numpy as np

from t5like.flops import Work, training_work
from t5like.mesh import MeshShape
from t5like.models.config import TransformerConfig
from t5like.optim.adamw import AdamW
from t5like.optim.base import Optimizer
from t5like.optim.schedules import Constant
from t5like.placement import initial_state, place
from t5like.sharding import AxisRules, put_batch
from t5like.train_step import TrainState
from t5like.training import TrainingConfig, jit_train_step

ADAMW = AdamW(schedule=Constant(peak=1e-4), max_grad_norm=None)


class OurStep:
    """A step that can be taken again and again; each call returns the real tokens of its batch once it is done."""

    def __init__(
        self,
        model: TransformerConfig,
        batch: dict[str, np.ndarray],
        *,
        optimizer: Optimizer = ADAMW,
        **settings: Any,
    ):
        """Compiles the step and draws the first state.

        Args:
          settings: of `TrainingConfig`.
        """
        rows = len(next(iter(batch.values())))
        config = TrainingConfig(
            optimizer=optimizer, num_steps=1000, batch_size=rows, **{"z_loss": 0.0, **settings}
        )
        placement = place(model, MeshShape(), AxisRules(), batch_size=rows)
        built = config.optimizer.build(config.num_steps, placement.axes)
        self.work: Work = training_work(
            placement.model.config, {name: array.shape for name, array in batch.items()}
        )
        self.num_tokens = batches.real_tokens(batch)
        self._mesh = placement.mesh
        with jax.set_mesh(self._mesh):
            self._state: TrainState = initial_state(placement, built, seed=0, params=None)
            self._arrays = put_batch(batch, placement.batch)
            step = jit_train_step(config, placement, built)
            self._step = step.lower(self._state, self._arrays, np.uint32(0)).compile()

    def __call__(self) -> int:
        """Takes a step."""
        with jax.set_mesh(self._mesh):
            self._state, metrics = self._step(self._state, self._arrays, np.uint32(0))
            jax.block_until_ready((self._state, metrics))
        return self.num_tokens

    @property
    def bytes_needed(self) -> int:
        """What the program holds at once, state and batch among it, as its compiler says."""
        memory = self._step.memory_analysis()
        return int(
            memory.argument_size_in_bytes
            + memory.temp_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
        )
