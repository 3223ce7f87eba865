"""A train step against Hugging Face Transformers on PyTorch, on the CPU, in alternating runs.

    python tests/benchmarks/train_step_vs_transformers.py [--model t5_small] [--rounds 9] [--peer_python PYTHON]

The same step on both sides, float32, dropout 0.1, AdamW, all cores:

    t5_small, t5_base, t5_large   T5 1.0, inputs 512, targets 114, batch 8, 4, 1; large with Adafactor, since AdamW's
                                  state of both sides is more than 24 GB
    bert_base                     masked language modelling and next sentence, 4 rows of 512
    gpt2_small                    causal language model, 2 rows of 1024
    minilm                        MiniLM-L6 with a classifier of two labels, 32 rows of 128: a fine-tuning step

The peer lives in an environment this script makes under ~/.cache/t5like/benchmarks (PyTorch for CPU and
Transformers 4.57, the last that is tuned for T5 training); --peer_python uses one that is there.

Last line: train_step_MODEL ratio=R ours=TOKENS/S peer=TOKENS/S spread=LOWEST-HIGHEST RATIO share=OF MATRIX PRODUCTS
"""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import batches
from alternating import alternate, argument_parser, serve

INPUTS, TARGETS = 512, 114
T5_ROWS = {"t5_small": 8, "t5_base": 4, "t5_large": 1}
# rows, length
OTHERS = {"bert_base": (4, 512), "gpt2_small": (2, 1024), "minilm": (32, 128)}
VOCABULARIES = {"bert_base": 30522, "minilm": 30522, "gpt2_small": 50257}
T5_VOCABULARY = 32128
NUM_LABELS = 2


def batch_for(name: str) -> dict[str, Any]:
    """Returns the batch of a model, in our features."""
    if name in T5_ROWS:
        return batches.encoder_decoder(T5_ROWS[name], INPUTS, TARGETS, T5_VOCABULARY)
    shape = (*OTHERS[name], VOCABULARIES[name])
    if name == "gpt2_small":
        return batches.decoder(*shape)
    return batches.masked(*shape) if name == "bert_base" else batches.classified(*shape, NUM_LABELS)


def run_ours(name: str) -> None:
    """Serves our train step."""
    from t5like.allocator import keep_freed_memory

    keep_freed_memory()
    from our_step import ADAMW, OurStep

    from t5like.families.bert import bert
    from t5like.families.gpt2 import gpt2
    from t5like.families.t5 import t5_1_0
    from t5like.optim.adafactor import Adafactor
    from t5like.optim.schedules import Constant

    if name in T5_ROWS:
        model = dataclasses.replace(t5_1_0(name.removeprefix("t5_")), scans_layers=False)
    elif name == "gpt2_small":
        model = gpt2("small")
    elif name == "bert_base":
        model = bert("base")
    else:
        model = dataclasses.replace(
            bert("minilm-l6"),
            head="sequence_classification",
            num_labels=NUM_LABELS,
            predicts_next_sentence=False,
        )
    if model.shares_dropout:
        model = dataclasses.replace(model, attention="per_example")
    optimizer = Adafactor(schedule=Constant(peak=1e-4)) if name == "t5_large" else ADAMW
    step = OurStep(model, batch_for(name), optimizer=optimizer)
    serve(step, flops_per_unit=step.work.flops / step.num_tokens)


def make_peer(name: str) -> tuple[Any, dict[str, Any]]:
    """Returns the model in Transformers, and the arguments of a call with the same batch."""
    import torch
    import transformers

    batch = {feature: torch.from_numpy(array).long() for feature, array in batch_for(name).items()}
    if name in T5_ROWS:
        sizes = {
            "t5_small": (512, 2048, 6, 8),
            "t5_base": (768, 3072, 12, 12),
            "t5_large": (1024, 4096, 24, 16),
        }
        d_model, d_ff, num_layers, num_heads = sizes[name]
        config = transformers.T5Config(
            vocab_size=T5_VOCABULARY,
            d_model=d_model,
            d_kv=64,
            d_ff=d_ff,
            num_layers=num_layers,
            num_heads=num_heads,
            dropout_rate=0.1,
            decoder_start_token_id=0,
        )
        inputs, mask = batch["encoder_input_tokens"], batch["encoder_segment_ids"]
        model = transformers.T5ForConditionalGeneration(config)
        return model, {"input_ids": inputs, "attention_mask": mask, "labels": batch["decoder_target_tokens"]}
    if name == "gpt2_small":
        ids = batch["decoder_target_tokens"]
        return transformers.GPT2LMHeadModel(transformers.GPT2Config()), {"input_ids": ids, "labels": ids}
    inputs, mask = batch["encoder_input_tokens"], batch["encoder_segment_ids"]
    arguments = {"input_ids": inputs, "attention_mask": mask}
    if name == "bert_base":
        labels = inputs.masked_fill(batch["encoder_loss_weights"] == 0, -100)
        return transformers.BertForPreTraining(transformers.BertConfig()), {
            **arguments,
            "labels": labels,
            "next_sentence_label": batch["next_sentence_labels"],
        }
    config = transformers.BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    model = transformers.BertForSequenceClassification(config)
    return model, {**arguments, "labels": batch["label_ids"]}


def run_peer(name: str) -> None:
    """Serves the same step in Transformers on PyTorch."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    model, arguments = make_peer(name)
    model.train()
    optimizers = {"t5_large": torch.optim.Adafactor}
    optimizer = optimizers.get(name, torch.optim.AdamW)(model.parameters(), lr=1e-4, weight_decay=0.0)
    num_tokens = batches.real_tokens(batch_for(name))

    def step() -> int:
        model(**arguments).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return num_tokens

    serve(step)


def main() -> None:
    """Alternates the two sides."""
    parser = argument_parser(__doc__)
    parser.add_argument("--model", choices=(*T5_ROWS, *OTHERS), default="t5_small")
    options = parser.parse_args()
    if options.role:
        sides: dict[str, Callable[[str], None]] = {"ours": run_ours, "peer": run_peer}
        return sides[options.role](options.model)
    alternate(f"train_step_{options.model}", __file__, options)


if __name__ == "__main__":
    main()
