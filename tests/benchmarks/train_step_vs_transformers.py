"""T5-small train step against Hugging Face Transformers on PyTorch, on the CPU, in alternating runs.

    python tests/benchmarks/train_step_vs_transformers.py [--rounds 9] [--peer_python PYTHON]

The same step on both sides: T5 1.0 small (d_model 512, 6 + 6 layers, d_ff 2048, 8 heads, vocabulary 32128), batch 8,
inputs 512, targets 114, float32, dropout 0.1, AdamW, all cores. Each side runs in a process of its own that times one
step whenever it is told to, so that both see the same noise of the machine; the ratio is the median of the rounds'.
The peer lives in an environment this script makes under ~/.cache/t5like/benchmarks (PyTorch for CPU and
Transformers 4.57, the last that is tuned for T5 training); --peer_python uses one that is there.

Last line: train_step ratio=R ours=TOKENS/S peer=TOKENS/S spread=LOWEST-HIGHEST RATIO
"""

import dataclasses
import os

from alternating import alternate, argument_parser, serve

BATCH, INPUTS, TARGETS, VOCABULARY = 8, 512, 114, 32128
REAL_TOKENS = BATCH * (INPUTS + TARGETS)


def run_ours() -> None:
    """Serves our train step, as `t5like pretrain` runs it."""
    from t5like.allocator import keep_freed_memory

    keep_freed_memory()
    import jax
    import numpy as np

    from t5like.families.t5 import t5_1_0
    from t5like.mesh import MeshShape
    from t5like.optim.adamw import AdamW
    from t5like.optim.schedules import Constant
    from t5like.placement import initial_state, place
    from t5like.sharding import AxisRules, put_batch
    from t5like.training import TrainingConfig, jit_train_step

    model = dataclasses.replace(t5_1_0("small"), attention="per_example", scans_layers=False)
    config = TrainingConfig(
        optimizer=AdamW(schedule=Constant(peak=1e-4), max_grad_norm=None),
        num_steps=1000,
        batch_size=BATCH,
        z_loss=0.0,
    )
    placement = place(model, MeshShape(), AxisRules(), batch_size=BATCH)
    optimizer = config.optimizer.build(config.num_steps, placement.axes)
    rng = np.random.default_rng(0)
    targets = rng.integers(2, 32000, (BATCH, TARGETS), np.int32)
    batch = {
        "encoder_input_tokens": rng.integers(2, 32000, (BATCH, INPUTS), np.int32),
        "encoder_segment_ids": np.ones((BATCH, INPUTS), np.int32),
        "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
        "decoder_target_tokens": targets,
        "decoder_segment_ids": np.ones((BATCH, TARGETS), np.int32),
        "decoder_loss_weights": np.ones((BATCH, TARGETS), np.float32),
    }
    with jax.set_mesh(placement.mesh):
        state = initial_state(placement, optimizer, seed=0, params=None)
        train_step = jit_train_step(config, placement, optimizer)
        arrays = put_batch(batch, placement.batch)

        def step() -> int:
            nonlocal state
            state, metrics = train_step(state, arrays, np.uint32(0))
            jax.block_until_ready((state, metrics))
            return REAL_TOKENS

        serve(step)


def run_peer() -> None:
    """Serves the same step in Transformers on PyTorch."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=512,
        d_kv=64,
        d_ff=2048,
        num_layers=6,
        num_heads=8,
        dropout_rate=0.1,
        decoder_start_token_id=0,
    )
    model = T5ForConditionalGeneration(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)
    inputs = torch.randint(2, 32000, (BATCH, INPUTS))
    mask = torch.ones_like(inputs)
    labels = torch.randint(2, 32000, (BATCH, TARGETS))

    def step() -> int:
        loss = model(input_ids=inputs, attention_mask=mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return REAL_TOKENS

    serve(step)


def main() -> None:
    """Alternates the two sides."""
    options = argument_parser(__doc__).parse_args()
    if options.role:
        return run_ours() if options.role == "ours" else run_peer()
    alternate("train_step", __file__, options)


if __name__ == "__main__":
    main()
