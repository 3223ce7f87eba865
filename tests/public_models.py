"""The tiny models of tests/tiny_models.py in Transformers 4.57 on PyTorch: the oracle of every test that says "public code".

Where PyTorch is not installed, the tests that import this are left out; setup.py says on which Pythons it is.
"""

import functools

import numpy as np
import pytest

from tests.tiny_models import MODELS, arrays_of, batch_of

WHY = "PyTorch and Transformers, the oracle, are not installed"
torch = pytest.importorskip("torch", reason=WHY)
hf = pytest.importorskip("transformers", reason=WHY)

# Later ones scale UMT5's logits wrongly.
assert hf.__version__.startswith("4."), hf.__version__


@functools.cache
def oracle(name):
    """Returns a public model in evaluation mode with the arrays of `arrays_of`, and all its arrays, copies too."""
    sizes = {key: value for key, value in MODELS[name].items() if key not in ("architectures", "model_type")}
    kind = getattr(hf, MODELS[name]["architectures"][0])
    model = kind(kind.config_class(**sizes)).eval()
    arrays = {key: torch.from_numpy(array) for key, array in arrays_of(name).items()}
    missing, unexpected = model.load_state_dict(arrays, strict=False)
    assert not unexpected
    model.tie_weights()
    held = {array.data_ptr() for array in model.state_dict().values()}
    assert all(model.state_dict()[key].data_ptr() in held for key in missing)
    return model, {key: value.numpy() for key, value in model.state_dict().items()}


def public_config(name):
    """Returns the config.json of a public model, as long as the public code writes it."""
    model, _ = oracle(name)
    return {**model.config.to_dict(), "architectures": [type(model).__name__]}


def public_batch(name):
    """Returns `batch_of` as the public model takes it."""
    batch = batch_of(name)
    stack = "encoder" if "encoder_input_tokens" in batch else "decoder"
    public = {"input_ids": batch[f"{stack}_input_tokens"], "attention_mask": batch[f"{stack}_segment_ids"]}
    model, _ = oracle(name)
    if stack == "encoder" and "decoder_input_tokens" in batch and hasattr(model, "lm_head"):
        public["decoder_input_ids"] = batch["decoder_input_tokens"]
    return {key: torch.from_numpy(array.astype(np.int64)) for key, array in public.items()}


def logits_of(output):
    """Returns what a public model's head gives, [batch, ...]."""
    if "start_logits" in output:
        return torch.stack([output["start_logits"], output["end_logits"]], -1)
    return next(output[key] for key in ("logits", "prediction_logits", "last_hidden_state") if key in output)
