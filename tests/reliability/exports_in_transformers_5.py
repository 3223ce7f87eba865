"""Every tiny model, exported by t5like, is loaded by Transformers 5 and computes there what it computes here.

    python tests/reliability/exports_in_transformers_5.py [--peer_python PYTHON]

The tests hold this true for Transformers 4.57, beside which version 5 cannot be installed. So version 5 lives in an
environment this script makes under ~/.cache/t5like/benchmarks; --peer_python uses one that is there. Compared are
the logits of real tokens, to 1e-5, the ids of a text, and the names of the arrays, none of which may be missing or
unexpected.

Last line: exports ok=N of N transformers=VERSION; the exit code is 1 where a model is not right.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

PEER_REQUIREMENTS = ("torch==2.13.0", "transformers>=5,<6", "sentencepiece", "protobuf")  # for T5's tokenizer
TEXT = "a lamb on <extra_id_0> ponk"
TOLERANCE = 1e-5
HERE = pathlib.Path(__file__).resolve()


def export(folder: pathlib.Path) -> None:
    """Writes each model as a public folder, and beside it its batch, its logits and which of them count."""
    sys.path.insert(0, str(HERE.parents[2]))
    import jax
    import numpy as np

    from t5like.public_model import save_public_model
    from tests.public_models import public_batch
    from tests.tiny_models import BATCH, MODELS, batch_of, is_real, ours, vocabulary_of

    for name in MODELS:
        transformer, params, _ = ours(name)
        save_public_model(folder / name, transformer.config, vocabulary_of(name), params)
        public, batch = public_batch(name), batch_of(name)
        logits = np.asarray(jax.jit(transformer.apply)({"params": params}, batch))
        real = np.ones(BATCH, bool) if logits.ndim == 2 else is_real(name)
        arrays = {key: value.numpy() for key, value in public.items()}
        ids = vocabulary_of(name).encode(TEXT)
        np.savez(folder / f"{name}.npz", logits=logits, real=real, ids=ids, **arrays)


def check(folder: pathlib.Path) -> int:
    """Prints one line a model and the last line; returns how many are not right."""
    import numpy as np
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    saved = sorted(folder.glob("*.npz"))
    num_right = 0
    for path in saved:
        model_folder = path.with_suffix("")
        (kind,) = json.loads((model_folder / "config.json").read_text())["architectures"]
        model, report = getattr(transformers, kind).from_pretrained(model_folder, output_loading_info=True)
        batch = dict(np.load(path))
        expected, real, ids = batch.pop("logits"), batch.pop("real"), batch.pop("ids").tolist()
        with torch.no_grad():
            output = model.eval()(**{key: torch.from_numpy(value) for key, value in batch.items()})
        if "start_logits" in output:
            logits = torch.stack([output["start_logits"], output["end_logits"]], -1)
        else:
            keys = ("logits", "prediction_logits", "last_hidden_state")
            logits = next(output[key] for key in keys if key in output)
        error = float(np.abs(logits.numpy() - expected)[real].max())
        wrong = {key: sorted(map(str, value)) for key, value in report.items() if value}
        # Of UMT5, the automatic class of version 5 reads tokenizer.json alone, which SentencePiece has none of here.
        is_umt5 = model.config.model_type == "umt5"
        tokenizer_kind = transformers.T5Tokenizer if is_umt5 else transformers.AutoTokenizer
        tokenizer = tokenizer_kind.from_pretrained(model_folder)
        found = tokenizer(TEXT, add_special_tokens=False).input_ids
        wrong |= {} if found == ids else {"ids": found, "instead of": ids}
        is_right = error <= TOLERANCE and not wrong
        num_right += is_right
        print(
            f"{'ok   ' if is_right else 'WRONG'} {path.stem:<22} {kind:<36} error {error:.1e} {wrong or ''}",
            flush=True,
        )
    print(f"exports ok={num_right} of {len(saved)} transformers={transformers.__version__}")
    return len(saved) - num_right


def peer_python() -> str:
    """Returns the interpreter of the environment with Transformers 5, made if it is not there."""
    folder = pathlib.Path.home() / ".cache/t5like/benchmarks/transformers-5"
    python, complete = folder / "bin/python", folder / "complete"
    if not complete.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEER_REQUIREMENTS], check=True)
        complete.touch()
    return str(python)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer_python", default=None)
    parser.add_argument("--check", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.check is not None:
        return min(check(options.check), 1)
    with tempfile.TemporaryDirectory() as folder:
        export(pathlib.Path(folder))
        python = options.peer_python or peer_python()
        return subprocess.run([python, HERE, "--check", folder]).returncode


if __name__ == "__main__":
    sys.exit(main())
