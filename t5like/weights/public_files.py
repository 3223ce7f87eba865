"""Opens weights as PyTorch programs publish them: a file, or a folder of Hugging Face with its shards.

In a folder, the first of these that is there:

    model.safetensors
    model.safetensors.index.json    names the shard of each tensor: model-00001-of-00002.safetensors, ...
    pytorch_model.bin
    pytorch_model.bin.index.json    likewise: pytorch_model-00001-of-00002.bin, ...
"""

import functools
import json
import os
from pathlib import Path

from t5like.errors import UserError
from t5like.weights.safetensors_reader import open_safetensors
from t5like.weights.safetensors_writer import INDEX_FILE, WEIGHTS_FILE
from t5like.weights.source import LazyTensors, TensorReader, TensorSource, one_line
from t5like.weights.torch_files import open_torch

_IN_A_FOLDER = (WEIGHTS_FILE, INDEX_FILE, "pytorch_model.bin", "pytorch_model.bin.index.json")
_INDEX_SUFFIX = ".index.json"
_TORCH_SUFFIXES = (".bin", ".pt", ".pth")
_LFS_POINTER = b"version https://git-lfs"


def open_weights(path: str | os.PathLike[str]) -> TensorSource:
    """Returns the tensors of a file or folder; of every shard the layout is read and checked now, and no tensor.

    Args:
      path: a folder, see above, or a file that ends in .safetensors, .bin, .pt, .pth or .index.json.

    Raises:
      UserError: there are no weights, a shard is missing, truncated or not as the index says, or a file is damaged,
        a Git LFS pointer, of a dtype not read here, or would run something when PyTorch reads it.
    """
    path = Path(path).expanduser()
    if os.path.isdir(path):
        found = [path / name for name in _IN_A_FOLDER if os.path.lexists(path / name)]
        if not found:
            raise UserError(f"{path} holds no weights: none of {', '.join(_IN_A_FOLDER)} is there.")
        path = found[0]
    _refuse_pointer(path)
    return _open_index(path) if path.name.endswith(_INDEX_SUFFIX) else _open_file(path)


def holds_weights(path: str | os.PathLike[str]) -> bool:
    """Returns whether `open_weights` would find a file to open, by the names alone."""
    path = Path(path).expanduser()
    if path.is_dir():
        return any(os.path.lexists(path / name) for name in _IN_A_FOLDER)
    return path.suffix in (".safetensors", *_TORCH_SUFFIXES) or path.name.endswith(_INDEX_SUFFIX)


def _open_file(path: Path) -> LazyTensors:
    if path.suffix == ".safetensors":
        return open_safetensors(path)
    if path.suffix in _TORCH_SUFFIXES:
        return open_torch(path)
    raise UserError(
        f"{path} is no file of weights by its name, which must end in .safetensors, {', '.join(_TORCH_SUFFIXES)} "
        f"or {_INDEX_SUFFIX}."
    )


def _refuse_pointer(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_POINTER))
    except OSError as error:
        raise UserError(f"Cannot read {path}: {one_line(error)}.") from error
    if start == _LFS_POINTER:
        raise UserError(
            f"{path} is a Git LFS pointer, not the file it stands for; run `git lfs pull` in its repository."
        )


def _open_index(path: Path) -> LazyTensors:
    """Returns the tensors of all shards that an index names, once each shard holds what the index says."""
    weight_map = _read_weight_map(path)
    shards = {}
    for shard in sorted(set(weight_map.values())):
        if not os.path.isfile(path.parent / shard):
            raise UserError(f"{path.parent} lacks the shard {shard}, which {path.name} names; download it.")
        _refuse_pointer(path.parent / shard)
        shards[shard] = _open_file(path.parent / shard)
    for shard, source in shards.items():
        expected = {name for name, its_shard in weight_map.items() if its_shard == shard}
        for name in sorted(expected ^ source.tensors.keys()):
            what = "lacks" if name in expected else "holds"
            says = "names there" if name in expected else "does not name there"
            raise UserError(
                f"{source.origin} {what} the tensor {name}, which {path.name} {says}; "
                "download both again, from one place."
            )
    readers = {
        name: TensorReader(shards[shard].tensors[name], functools.partial(shards[shard].read, name))
        for name, shard in weight_map.items()
    }
    return LazyTensors(path, readers)


def _read_weight_map(path: Path) -> dict[str, str]:
    """Returns the name of each tensor's shard."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read {path}: {one_line(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: it is not JSON ({one_line(error)}).") from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{path} is damaged: it has no weight_map, which names the shard of each tensor.")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or Path(shard).name != shard or shard.endswith(_INDEX_SUFFIX):
            raise UserError(
                f"{path} is damaged: the shard of {name} is {shard!r}, which is no name of a file."
            )
    return weight_map
