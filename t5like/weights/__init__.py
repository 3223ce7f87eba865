"""Files of named tensors, read and written one tensor at a time; nothing here knows a model.

open_weights        PyTorch's and Hugging Face's files: .safetensors, .bin, .pt, whole or in shards
open_t5x            checkpoints of T5X and Orbax, the parameters without the optimizer's state
write_safetensors   what `open_weights` reads, as Hugging Face names it
"""

from t5like.weights.public_files import open_weights
from t5like.weights.safetensors_writer import TensorToWrite, write_safetensors
from t5like.weights.source import TensorInfo, TensorSource
from t5like.weights.t5x_checkpoint import open_t5x

__all__ = ["TensorInfo", "TensorSource", "TensorToWrite", "open_t5x", "open_weights", "write_safetensors"]
