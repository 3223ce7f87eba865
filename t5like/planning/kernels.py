"""How long our own kernels keep a TPU's core: by the instruction bundles of their inner loop, which issue one a cycle.

The compiler's roofline knows nothing of a kernel but the operations it states, and those of attention leave out the
softmax, which takes longer than the products. The counts are static: what the compiler schedules for a block of
512 queries and keys of one head of 64, with a bias; waits for memory are not in them.

To count them anew: compile with LIBTPU_INIT_ARGS="--xla_jf_dump_to=DIR --xla_jf_dump_llo_text=true" and read the file
*schedule-analysis_final_bundles.txt of the kernel.
"""

BLOCK_LOGITS = 512 * 512
_CLOCK_HERTZ = {
    "v5e": 1.5e9,
    "v5p": 1.75e9,
    "v6e": 1.75e9,
}  # assumed; the ones that the compiler's cycles fit
_BUNDLES = {  # of a block, libtpu 0.0.42.1, 2026-11
    ("flash_forward", "v5e"): 1250,
    ("flash_forward", "v5p"): 1300,
    ("flash_forward", "v6e"): 1006,
    ("flash_backward", "v5e"): 1797,
    ("flash_backward", "v5p"): 1785,
    ("flash_backward", "v6e"): 1332,
}
KERNELS = frozenset(kernel for kernel, _ in _BUNDLES)


def kernel_seconds(kernel: str, chip: str, num_logits: float) -> float | None:
    """Returns how long a kernel takes for so many logits, None where its bundles on a chip have not been counted."""
    bundles = _BUNDLES.get((kernel, chip))
    return None if bundles is None else num_logits / BLOCK_LOGITS * bundles / _CLOCK_HERTZ[chip]
