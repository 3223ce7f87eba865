"""Compiles one attention and its gradients for a TPU that is not there, and prints what memory it takes, as JSON.

    python tests/planning/compile_attention.py TOPOLOGY WAY LENGTH HEADS

In a process of its own: the TPU compiler reads its environment once, and the tests' own says to compile badly.
"""

import functools
import json
import sys

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from t5like.models.attend import KeyValue, attend_at_once
from t5like.models.attend_chunked import CHUNKED
from t5like.models.attend_flash import FLASH
from t5like.models.attend_in_blocks import attend_in_blocks
from t5like.models.masks import Mask
from t5like.models.relative_bias import Diagonals
from t5like.sharding import AxisRules

HEAD_DIM = 64


def attend(way, query, key, value, bias, segments):
    """Returns the attended values of an encoder's attention."""
    mask = Mask(query_segments=segments, key_segments=segments)
    bias = Diagonals(bias, query.shape[1], key.shape[1])
    if way == "at_once":
        return attend_at_once(query, KeyValue(key, value), bias.dense(), mask.dense(), 0.0, None)
    blockwise = {"chunked": CHUNKED, "flash": FLASH}[way]
    return attend_in_blocks(blockwise, query, KeyValue(key, value), bias, mask, 0.0, None, rules=AxisRules())


def attend_and_back(way, query, key, value, bias, segments, gradient):
    """Returns the attended values and the gradients of query, key, value and bias."""
    y, transpose = jax.vjp(
        lambda *differentiated: attend(way, *differentiated, segments), query, key, value, bias
    )
    return y, transpose(gradient)


def main(topology, way, length, heads):
    """Prints temporaries and peak in MiB, and how many kernels the program has."""
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    sharding = SingleDeviceSharding(devices[0])
    of = functools.partial(jax.ShapeDtypeStruct, sharding=sharding)
    tokens = of((1, length, heads, HEAD_DIM), jnp.bfloat16)
    arguments = (
        tokens,
        tokens,
        tokens,
        of((heads, 2 * length), jnp.float32),
        of((1, length), jnp.int32),
        tokens,
    )
    compiled = jax.jit(functools.partial(attend_and_back, way)).lower(*arguments).compile()
    memory = compiled.memory_analysis()
    print(
        json.dumps(
            {
                "temporaries": memory.temp_size_in_bytes / 2**20,
                "peak": memory.peak_memory_in_bytes / 2**20,
                "kernels": compiled.as_text().count('custom_call_target="tpu_custom_call"'),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
