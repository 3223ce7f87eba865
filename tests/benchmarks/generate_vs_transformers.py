"""T5-small writing, against `generate` of Transformers on PyTorch, on the CPU, in alternating runs.

    python tests/benchmarks/generate_vs_transformers.py [--rows 8] [--num_beams 4] [--rounds 9]
                                                         [--peer_python PYTHON]

The same on both sides: T5 1.0 small with random parameters, 8 rows, inputs 64, 64 new tokens each (no row ends early),
float32, greedily or by beam search, all cores; encoding included.

Last line: generate ratio=R ours=TOKENS/S peer=TOKENS/S spread=LOWEST-HIGHEST RATIO
"""

import dataclasses
import os

from alternating import alternate, argument_parser, serve

INPUTS, NEW_TOKENS, VOCABULARY = 64, 64, 32128


def run_ours(rows: int, num_beams: int) -> None:
    """Serves our decoding, as `t5like generate` runs it."""
    from t5like.allocator import keep_freed_memory

    keep_freed_memory()
    import jax
    import numpy as np
    from flax import linen as nn

    from t5like.batch import SpecialTokens
    from t5like.decoding.options import BeamSearch, Greedy
    from t5like.families.t5 import t5_1_0
    from t5like.flops import forward_flops
    from t5like.generation import Writer
    from t5like.models.transformer import Transformer, init_params

    model = Transformer(dataclasses.replace(t5_1_0("small"), dropout_rate=0.0))
    writer = Writer(
        model,
        SpecialTokens(eos_id=-1, sentinel_ids=np.zeros(0, np.int32)),
        num_tokens=VOCABULARY,
        max_length=NEW_TOKENS,
        decoding=BeamSearch(num_beams=num_beams) if num_beams > 1 else Greedy(),
    )
    params = nn.unbox(jax.jit(lambda key: init_params(model, key))(jax.random.key(0)))
    prepared = writer.prepare(params)
    tokens = np.random.default_rng(0).integers(2, 32000, (rows, INPUTS), np.int32)
    batch = {"encoder_input_tokens": tokens, "encoder_segment_ids": np.ones_like(tokens)}

    def run_once() -> int:
        jax.block_until_ready(writer(prepared, batch))
        return rows * NEW_TOKENS

    encoder, decoder = forward_flops(model.config, inputs_length=INPUTS, targets_length=NEW_TOKENS)
    serve(run_once, flops_per_unit=(encoder + num_beams * decoder) / NEW_TOKENS)


def run_peer(rows: int, num_beams: int) -> None:
    """Serves the same in Transformers on PyTorch."""
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
        decoder_start_token_id=0,
    )
    model = T5ForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id = None  # no row ends early
    inputs = torch.randint(2, 32000, (rows, INPUTS))
    mask = torch.ones_like(inputs)

    @torch.no_grad()
    def run_once() -> int:
        model.generate(
            inputs, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False, num_beams=num_beams
        )
        return rows * NEW_TOKENS

    serve(run_once)


def main() -> None:
    """Alternates the two sides."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--num_beams", type=int, default=1)
    options = parser.parse_args()
    if options.role:
        return (run_ours if options.role == "ours" else run_peer)(options.rows, options.num_beams)
    alternate("generate", __file__, options)


if __name__ == "__main__":
    main()
