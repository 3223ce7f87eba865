"""What this machine reaches in one large matrix product, as a side of a comparison: the ceiling of everything else.

python tests/benchmarks/matrix_products.py        prints GFLOP/s in float32
"""

import argparse
import time

SIZE, TIMES = 2048, 8


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

    x = jnp.ones((SIZE, SIZE))
    product = jax.jit(jnp.dot)

    def run_once() -> float:
        for _ in range(TIMES):
            product(x, x).block_until_ready()
        return TIMES * 2.0 * SIZE**3

    if options.role:
        from alternating import serve

        return serve(run_once)
    run_once()
    start = time.perf_counter()
    print(f"{run_once() / (time.perf_counter() - start) / 1e9:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
