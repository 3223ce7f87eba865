"""How a train step grows with rows, length and depth: its time and the memory its program needs, and by which law.

    python tests/benchmarks/growth.py [--rounds 5] [--plot FILE.svg]

A small T5 1.1 (d_model 256, 4 heads, d_ff 512, 4 + 4 layers, T5's vocabulary, float32, AdamW, attention per_example) takes
steps of 8 rows of 256 and 64 tokens; one of the three is varied at a time, targets a fourth as long as inputs. Times are
the least of the rounds, memory is what the compiler says. Least squares then give, for n rows, length n or n layers a stack,

    seconds = a + b n        and of length    a + b n + c n^2

where c is attention's, whose logits are as many as the square of the length.

Last lines: growth AXIS seconds=LAW mebibytes=LAW fit=WORST ERROR, for each axis
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import time
from collections.abc import Sequence

import batches
import numpy as np
from alternating import Environment

PLOTS = Environment("plots", ("matplotlib",))
VALUES = {
    "rows": (2, 4, 8, 16, 32),
    "length": (128, 256, 512, 1024, 2048),
    "layers": (1, 2, 4, 8, 16),
}
USUAL = {"rows": 8, "length": 256, "layers": 4}
VOCABULARY = 32128
_DRAW = """
import json, sys
import matplotlib
matplotlib.use("svg")
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "growth", "font.size": 9})
import matplotlib.pyplot as plt
found = json.load(sys.stdin)
figure, axes = plt.subplots(2, len(found), figsize=(9, 5), sharey="row")
for column, (axis, of_axis) in zip(axes.T, found.items()):
    for place, name in zip(column, ("seconds", "mebibytes")):
        place.plot(of_axis["values"], of_axis[name], "o", color="#1f6feb")
        place.plot(of_axis["along"], of_axis[f"{name}_law"], color="#1f6feb", linewidth=1)
        place.set_xscale("log", base=2)
        place.set_yscale("log", base=2)
        place.xaxis.set_major_formatter("{x:g}")
        place.yaxis.set_major_formatter("{x:g}")
        place.grid(color="#8884", linewidth=0.5)
    column[1].set_xlabel(axis)
axes[0, 0].set_ylabel("seconds a step")
axes[1, 0].set_ylabel("MiB")
figure.tight_layout()
figure.savefig(sys.argv[1], metadata={"Date": None})
"""


def measure(rounds: int, *, rows: int, length: int, layers: int) -> tuple[float, float]:
    """Returns the seconds of a step and the MiB of its program."""
    from our_step import OurStep

    from t5like.families.t5 import t5_1_1

    model = dataclasses.replace(
        t5_1_1("small"),
        embed_dim=256,
        num_heads=4,
        mlp_dim=512,
        num_encoder_layers=layers,
        num_decoder_layers=layers,
        attention="per_example",
    )
    step = OurStep(model, batches.encoder_decoder(rows, length, length // 4, VOCABULARY))
    step()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times), step.bytes_needed / 2**20


def fit(values: Sequence[int], measured: Sequence[float], degree: int) -> np.ndarray:
    """Returns the coefficients, least degree first, of the polynomial with the least relative errors."""
    powers = np.vander(np.asarray(values, float), degree + 1, increasing=True)
    weights = 1 / np.asarray(measured)
    return np.linalg.lstsq(powers * weights[:, None], np.ones(len(values)), rcond=None)[0]


def law(coefficients: np.ndarray) -> str:
    """Returns a polynomial in n, in words."""
    signs = [f"{value:+.2g}" + ("", " n", " n^2")[power] for power, value in enumerate(coefficients)]
    return " ".join(signs).removeprefix("+")


def main() -> None:
    """Measures, fits, and draws where told to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plot", type=pathlib.Path, default=None)
    options = parser.parse_args()
    from t5like.allocator import keep_freed_memory

    keep_freed_memory()
    found, lines = {}, []
    for axis, values in VALUES.items():
        measured = [measure(options.rounds, **{**USUAL, axis: value}) for value in values]
        for value, (seconds, mebibytes) in zip(values, measured, strict=True):
            print(f"{axis} {value}: {seconds:.3f} s, {mebibytes:.0f} MiB", flush=True)
        along = np.geomspace(values[0], values[-1], 50)
        of_axis = {"values": list(values), "along": along.tolist()}
        told, worst = [], 0.0
        for index, name in enumerate(("seconds", "mebibytes")):
            of_name = [each[index] for each in measured]
            coefficients = fit(values, of_name, degree=2 if axis == "length" else 1)
            predicted = np.polynomial.polynomial.polyval(np.asarray(values, float), coefficients)
            worst = max(worst, float(np.max(np.abs(predicted / of_name - 1))))
            of_axis |= {
                name: of_name,
                f"{name}_law": np.polynomial.polynomial.polyval(along, coefficients).tolist(),
            }
            told.append(f'{name}="{law(coefficients)}"')
        found[axis] = of_axis
        lines.append(f"growth {axis} {' '.join(told)} fit={100 * worst:.0f}%")
    if options.plot is not None:
        command = (PLOTS.python(), "-c", _DRAW, str(options.plot))
        subprocess.run(command, input=json.dumps(found), text=True, check=True)
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
