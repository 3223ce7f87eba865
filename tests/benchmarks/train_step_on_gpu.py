"""T5 1.1 train steps in bfloat16 on one accelerator, against Transformers on PyTorch with torch.compile on the same one.

    python tests/benchmarks/train_step_on_gpu.py [--model base|large|xl|tiny] [--rows N] [--attention WAY] [--rounds 9]
                                                 [--peer_python PYTHON]

The same step on both sides: inputs 512, targets 114, weights and moments in float32, products in bfloat16 (autocast there),
dropout 0, AdamW; XL with its layers rematerialised. Each side holds its part of the accelerator's memory alone, so both sizes
of batch are those of --rows. The share is that of the products the model's definition asks for, of what one large product
in bfloat16 reaches on this accelerator, which is measured beside.

`tiny` runs anywhere, to see that the script does. Last lines:

    memory ours=GIB peer=GIB
    train_step_gpu_MODEL ratio=R ours=TOKENS/S peer=TOKENS/S spread=LOWEST-HIGHEST RATIO share=SLOT MFU
"""

import dataclasses
import os
import sys
from typing import Any

import batches
from alternating import alternate, argument_parser, serve

INPUTS, TARGETS, VOCABULARY = 512, 114, 32128
# d_model, d_kv, d_ff, layers, heads; rows
SIZES = {
    "tiny": ((64, 16, 128, 2, 4), 2),
    "base": ((768, 64, 2048, 12, 12), 64),
    "large": ((1024, 64, 2816, 24, 16), 32),
    "xl": ((2048, 64, 5120, 24, 32), 16),
}


def say_memory(role: str, num_bytes: float) -> None:
    """Writes on standard error what a side has needed at most, where the one who reads both sides' seconds does not look."""
    print(f"memory {role}={num_bytes / 2**30:.2f} GiB", file=sys.stderr, flush=True)


def run_ours(name: str, rows: int, attention: str) -> None:
    """Serves our train step."""
    import jax
    from our_step import OurStep

    from t5like.families.t5 import t5_1_1

    d_model, d_kv, d_ff, layers, heads = SIZES[name][0]
    model = dataclasses.replace(
        t5_1_1("small"),
        embed_dim=d_model,
        head_dim=d_kv,
        mlp_dim=d_ff,
        num_heads=heads,
        num_encoder_layers=layers,
        num_decoder_layers=layers,
        compute_dtype="bfloat16",
        attention=attention,
        dropout_rate=0.0,
        remat="full" if name == "xl" else "none",
    )
    step = OurStep(model, batches.encoder_decoder(rows, INPUTS, TARGETS, VOCABULARY))
    step()
    step()
    stats = jax.devices()[0].memory_stats() or {}
    say_memory("ours", stats.get("peak_bytes_in_use", step.bytes_needed))
    serve(step, flops_per_unit=step.work.flops / step.num_tokens)


def run_peer(name: str, rows: int) -> None:
    """Serves the same step in Transformers on PyTorch."""
    import torch
    import transformers

    d_model, d_kv, d_ff, layers, heads = SIZES[name][0]
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=d_model,
        d_kv=d_kv,
        d_ff=d_ff,
        num_layers=layers,
        num_heads=heads,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        use_cache=False,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    model = transformers.T5ForConditionalGeneration(config).to(device).train()
    if name == "xl":
        model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0, fused=device == "cuda")
    # Without a C++ compiler, as on a bare CPU machine, there is nothing to compile with.
    compiled = torch.compile(model) if device == "cuda" else model
    batch = batches.encoder_decoder(rows, INPUTS, TARGETS, VOCABULARY)
    arguments = {
        "input_ids": torch.from_numpy(batch["encoder_input_tokens"]).long().to(device),
        "attention_mask": torch.from_numpy(batch["encoder_segment_ids"]).long().to(device),
        "labels": torch.from_numpy(batch["decoder_target_tokens"]).long().to(device),
    }
    num_tokens = batches.real_tokens(batch)

    def step() -> int:
        with torch.autocast(device, torch.bfloat16):
            loss = compiled(**arguments).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()
        return num_tokens

    step()
    step()
    if device == "cuda":
        say_memory("peer", torch.cuda.max_memory_allocated())
    serve(step)


def main() -> None:
    """Alternates the two sides."""
    parser = argument_parser(__doc__)
    parser.add_argument("--model", choices=SIZES, default="tiny")
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--attention", choices=("at_once", "chunked", "per_example"), default="at_once")
    options = parser.parse_args()
    # Each side takes what it needs; by default ours would take most of the accelerator's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("MATRIX_PRODUCTS_DTYPE", "bfloat16")
    rows = options.rows or SIZES[options.model][1]
    arguments: dict[str, Any] = {"name": options.model, "rows": rows}
    if options.role == "ours":
        return run_ours(**arguments, attention=options.attention)
    if options.role == "peer":
        return run_peer(**arguments)
    alternate(f"train_step_gpu_{options.model}", __file__, options)


if __name__ == "__main__":
    main()
