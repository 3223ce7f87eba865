"""A model without a transformer: what comes next is looked up in a table by a number that stands for all that was said."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

NUM_MEMORIES = 997


class Toy:
    """A step function over memories; rows with another beginning have another memory, and another answer."""

    def __init__(
        self, vocab: int, *, seed: int = 0, scale: float = 1.5, eos_id: int = 1, eos_bias: float = 0.0
    ):
        self.vocab, self.eos_id = vocab, eos_id
        self.table = scale * np.random.default_rng(seed).normal(size=(NUM_MEMORIES, vocab)).astype(np.float32)
        self.table[:, eos_id] += eos_bias
        self.log_probs = np.asarray(jax.nn.log_softmax(self.table), np.float64)

    def start(self, memories: Any, num_beams: int = 1) -> tuple[dict[str, jax.Array], jax.Array]:
        """Returns the state of these prompts, each repeated for its beams, and the first logits of each."""
        memories = jnp.asarray(memories, jnp.int32)
        state = {"memory": jnp.repeat(memories, num_beams), "num_steps": jnp.zeros((), jnp.int32)}
        return state, jnp.asarray(self.table)[memories]

    def step(self, state: dict[str, jax.Array], tokens: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        memory = (31 * state["memory"] + tokens + 7) % NUM_MEMORIES
        return jnp.asarray(self.table)[memory], {"memory": memory, "num_steps": state["num_steps"] + 1}

    @staticmethod
    def reorder(state: dict[str, jax.Array], rows: jax.Array) -> dict[str, jax.Array]:
        return state | {"memory": state["memory"][rows]}

    def log_probs_along(self, memory: int, tokens: Any) -> Iterator[np.ndarray]:
        """Yields the log-probabilities [vocab] of each of these tokens, in NumPy and one row at a time."""
        for token in tokens:
            yield self.log_probs[memory]
            memory = (31 * memory + int(token) + 7) % NUM_MEMORIES

    def log_prob(self, memory: int, tokens: Any) -> float:
        """Returns the log-probability of a sequence after a prompt."""
        return sum(
            step[token] for step, token in zip(self.log_probs_along(memory, tokens), tokens, strict=True)
        )

    def greedy(self, memory: int, max_length: int) -> list[int]:
        """Returns the likeliest token again and again, end mark included."""
        tokens: list[int] = []
        while len(tokens) < max_length and self.eos_id not in tokens:
            *_, last = self.log_probs_along(memory, [*tokens, 0])
            tokens.append(int(last.argmax()))
        return tokens

    def all_sequences(self, max_length: int) -> Iterator[tuple[int, ...]]:
        """Yields every sequence that ends with the end mark or is `max_length` long."""
        others = [token for token in range(self.vocab) if token != self.eos_id]
        for length in range(1, max_length + 1):
            lasts = range(self.vocab) if length == max_length else [self.eos_id]
            for beginning in itertools.product(others, repeat=length - 1):
                yield from ((*beginning, last) for last in lasts)


@pytest.fixture(scope="session")
def toy() -> type[Toy]:
    """The class of the toy, whose tables tests choose."""
    return Toy


@pytest.fixture
def counted() -> Callable[[Callable], tuple[Callable, list[int]]]:
    """Gives a function from a step to the same step and the list in which it leaves a mark each time it runs."""

    def count(step: Callable) -> tuple[Callable, list[int]]:
        marks: list[int] = []

        def counted_step(state: Any, tokens: jax.Array) -> Any:
            jax.debug.callback(lambda: marks.append(1))
            return step(state, tokens)

        return counted_step, marks

    return count
