"""Parameters as decoding reads them: layer by layer, in as few and as long reads as there can be."""

from typing import Any

import jax

from t5like.models.attention import joined
from t5like.models.config import TransformerConfig
from t5like.models.layers import TURNED_TABLE


def prepare(params: Any, c: TransformerConfig, *, turns_table: bool) -> Any:
    """Returns parameters with which a model of `for_decoding`'s config computes the same, one token at a time.

    Args:
      turns_table: whether a table that is the head as well is given in columns too. A CPU reads rows of a product's second
        matrix a third faster than columns; other devices lay matrices out as they like them.
    """
    params = unstack_layers(params)
    decoder = dict(params["decoder"])
    for name in (name for name in decoder if name.startswith("layers_")):
        attention = joined(decoder[name]["self_attention"], c.num_heads)
        decoder[name] = {**decoder[name], "self_attention": attention}
    table = params["token_embedder"]
    if turns_table and c.head_is_tied:
        table = {**table, TURNED_TABLE: table["embedding"].T}
    return {**params, "decoder": decoder, "token_embedder": table}


def unstack_layers(params: Any) -> Any:
    """Returns parameters with `layers/...` and a leading axis as ones with `layers_0/...`, `layers_1/...`."""
    return {
        name: _unstacked(part) if name in ("encoder", "decoder") else part for name, part in params.items()
    }


def _unstacked(stack: Any) -> Any:
    if "layers" not in stack:
        return stack
    rest = {name: part for name, part in stack.items() if name != "layers"}
    num_layers = len(jax.tree.leaves(stack["layers"])[0])
    layers = {
        f"layers_{i}": jax.tree.map(lambda leaf, i=i: leaf[i], stack["layers"]) for i in range(num_layers)
    }
    return {**rest, **layers}
