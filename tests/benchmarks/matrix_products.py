"""What this machine reaches in one large matrix product, as a side of a comparison: the ceiling of everything else.

python tests/benchmarks/matrix_products.py        prints GFLOP/s in float32, or in what MATRIX_PRODUCTS_DTYPE says
"""

import argparse
import os
import time

DTYPE = os.environ.get("MATRIX_PRODUCTS_DTYPE", "float32")
# Large enough for an accelerator to be at work; of a CPU, a fraction of a second.
SIZES = {"cpu": 2048}
OTHER_SIZE, TIMES = 8192, 8


def main() -> None:
    """Serves products where it is a side; else prints their rate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--role", default=None, help=argparse.SUPPRESS)
    options, _ = parser.parse_known_args()
    from t5like.allocator import keep_freed_memory

    keep_freed_memory()
    import jax
    import jax.numpy as jnp

    size = SIZES.get(jax.default_backend(), OTHER_SIZE)
    x = jnp.ones((size, size), DTYPE)
    product = jax.jit(jnp.dot)

    def run_once() -> float:
        for _ in range(TIMES):
            product(x, x).block_until_ready()
        return TIMES * 2.0 * size**3

    if options.role:
        from alternating import serve

        return serve(run_once)
    run_once()
    start = time.perf_counter()
    print(f"{run_once() / (time.perf_counter() - start) / 1e9:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
