"""T5-small train step against T5X's network under JAX, on the CPU, in alternating runs.

    python tests/benchmarks/train_step_vs_t5x.py [--rounds 9] [--t5x CHECKOUT] [--peer_python PYTHON]

The step of train_step_vs_transformers.py: T5 1.0 small, 8 rows of 512 and 114, float32, dropout 0.1, AdamW. The peer is
the network of T5X (t5x/examples/t5/network.py) with its packed-batch masks, a softmax cross-entropy on one-hot targets as T5X
has it, and optax's AdamW, all in one jitted step that donates its state; T5X as a whole does not install beside current
packages. Its checkout is cloned to ~/.cache/t5like/benchmarks, unless --t5x names one; JAX, Flax and Optax for it are
installed there.

Last line: train_step_t5x ratio=R ours=TOKENS/S peer=TOKENS/S spread=LOWEST-HIGHEST RATIO share=OF MATRIX PRODUCTS
"""

import functools
import pathlib
import subprocess
import sys
from typing import Any

import batches
from alternating import CACHE, Environment, alternate, argument_parser, serve
from train_step_vs_transformers import T5_VOCABULARY, batch_for, run_ours

T5X = Environment("t5x", ("jax", "flax", "optax"))
MODEL = "t5_small"


def find_t5x(given: str | None) -> pathlib.Path:
    """Returns a folder that holds T5X's package, cloned if there is none."""
    folder = pathlib.Path(given) if given else CACHE / "t5x-source"
    if not (folder / "t5x/examples/t5/network.py").is_file():
        if given:
            raise SystemExit(f"--t5x {given} holds no t5x/examples/t5/network.py")
        url = "https://github.com/google-research/t5x"
        subprocess.run(["git", "clone", "--depth", "1", url, folder], check=True)
    return folder


def run_peer(folder: pathlib.Path) -> None:
    """Serves the same step of T5X's network."""
    # Its __init__ imports all of T5X; of its examples, the network needs none of that.
    import types

    import jax
    import jax.numpy as jnp
    import optax

    for name in ("t5x", "t5x.examples", "t5x.examples.t5"):
        package = types.ModuleType(name)
        package.__path__ = [str(folder / name.replace(".", "/"))]
        sys.modules[name] = package
    from t5x.examples.t5 import network

    model = network.Transformer(network.T5Config(vocab_size=T5_VOCABULARY, logits_via_embedding=True))
    batch = batch_for(MODEL)
    names = (
        *("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens"),
        *("encoder_segment_ids", "decoder_segment_ids"),
    )
    features = [jnp.asarray(batch[name]) for name in names]
    optimizer = optax.adamw(1e-4, weight_decay=0.0)

    @jax.jit
    def start(key: Any) -> Any:
        params = model.init(key, *features, enable_dropout=False)["params"]
        return params, optimizer.init(params), key

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any) -> Any:
        params, moments, key = state
        key, dropout_key = jax.random.split(key)

        def loss_of(params: Any) -> jax.Array:
            logits = model.apply({"params": params}, *features, rngs={"dropout": dropout_key})
            targets = jax.nn.one_hot(batch["decoder_target_tokens"], T5_VOCABULARY)
            return optax.softmax_cross_entropy(logits, targets).mean()

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, moments = optimizer.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), moments, key), loss

    state = start(jax.random.key(0))
    num_tokens = batches.real_tokens(batch)

    def run_once() -> int:
        nonlocal state
        state, loss = step(state)
        jax.block_until_ready((state, loss))
        return num_tokens

    serve(run_once)


def main() -> None:
    """Alternates the two sides."""
    parser = argument_parser(__doc__)
    parser.add_argument("--t5x", default=None)
    options = parser.parse_args()
    folder = find_t5x(options.t5x)
    if options.role:
        return run_ours(MODEL) if options.role == "ours" else run_peer(folder)
    alternate("train_step_t5x", __file__, options, environment=T5X)


if __name__ == "__main__":
    main()
