"""Entry point: let a trained model write.

t5like generate --init runs/sst2 --text "sst2 sentence: a joy from start to end"
t5like generate --init hf:flan-t5-small --num_beams 4 < inputs.txt
t5like generate --init hf:gpt2 --text "The lighthouse" --temperature 0.8 --top_p 0.95
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from t5like.config import parse_command_line, to_json
from t5like.decoding.options import BeamSearch, Decoding, Greedy, Sampling
from t5like.entry import run_entry
from t5like.errors import UserError
from t5like.generation import Writer, bucket_length, prompt_rows
from t5like.mesh import MeshShape
from t5like.models.config import TransformerConfig
from t5like.objectives.text_to_text import TextToText
from t5like.optim.base import require_positive
from t5like.placement import Placement, place
from t5like.sharding import AxisRules, put_batch
from t5like.trained_model import load_model

COMMAND = "t5like generate"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generate:
    """What to write on, with which model, and how to choose among what it might say."""

    init: str | None = None
    """Workdir of the run whose newest checkpoint writes, or hf:FOLDER of a public model."""
    text: tuple[str, ...] = ()
    """The inputs, one answer each; none: one a line from --input_file, else from standard input."""
    input_file: str | None = None
    objective: TextToText = TextToText(inputs_length=256, targets_length=64)
    """Lengths that inputs are cut to and answers end at."""
    num_beams: int = 1
    """More than 1: beam search."""
    length_penalty: float = 1.0
    """Of beam search: scores are divided by the length to this power, so that more favours long answers."""
    num_best: int = 1
    """Of beam search: how many answers to print for each input, the best first."""
    temperature: float | None = None
    """Draw tokens, below 1 more of the likely ones; None takes the likeliest, unless top_k or top_p is given."""
    top_k: int | None = None
    """Draw from this many likeliest tokens."""
    top_p: float | None = None
    """Draw from the fewest likeliest tokens that have this probability together."""
    seed: int = 0
    """Of the first input's draws; the next has the next seed, so that what is drawn for one depends on no other."""
    batch_size: int = 8
    mesh: MeshShape = MeshShape()
    rules: AxisRules = AxisRules()

    def __post_init__(self) -> None:
        require_positive(self, "num_beams", "num_best", "batch_size")
        if self.text and self.input_file is not None:
            raise UserError(f"{COMMAND} reads --text or --input_file, not both; leave one out.")
        if self.num_beams > 1 and self.samples:
            raise UserError(
                "Beam search draws nothing; leave out --temperature, --top_k and --top_p, or --num_beams."
            )
        if self.num_best > self.num_beams:
            raise UserError(
                f"num_best {self.num_best} needs --num_beams {self.num_best} or more, to choose from."
            )
        self.decoding()  # checks the values

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn."""
        return not self.temperature is self.top_k is self.top_p is None

    def decoding(self) -> Decoding:
        """Returns how tokens are chosen."""
        if self.num_beams > 1:
            return BeamSearch(
                num_beams=self.num_beams, length_penalty=self.length_penalty, num_best=self.num_best
            )
        if not self.samples:
            return Greedy()
        temperature = 1.0 if self.temperature is None else self.temperature
        return Sampling(temperature=temperature, top_k=self.top_k, top_p=self.top_p, seed=self.seed)


def main(argv: list[str]) -> None:
    """Prints what the model writes: in a terminal as it writes, if there is one input."""
    config, options = parse_command_line(
        argv, command=COMMAND, config_class=Generate, default=Generate(), has_workdir=False
    )
    if options.prints_config:
        print(to_json(config))
        return
    if sys.stdout.isatty() and len(config.text) == 1 and config.num_beams == 1:
        for part in stream(config):
            print(part, end="", flush=True)
        print()
        return
    for answers in generate(config):
        for answer in answers:
            print(answer, flush=True)


def generate(config: Generate) -> Iterator[list[str]]:
    """Yields the answers to each input, the best first.

    Raises:
      UserError: for input that cannot work.
    """
    texts = read_inputs(config)
    session = _Session(config)
    yield from session.answers(texts)


def stream(config: Generate) -> Iterator[str]:
    """Yields the answer to the one input, part by part as it is written.

    Raises:
      UserError: for input that cannot work.
    """
    yield from _Session(config).parts(config.text[0])


class _Session:
    """A model on the devices, ready to write."""

    def __init__(self, config: Generate) -> None:
        if config.init is None:
            raise UserError(f"{COMMAND} needs --init, the model that shall write.")
        init = load_model(config.init)
        check_can_write(init.config, config)
        self._config, self._vocabulary = config, init.vocabulary
        self._placement: Placement = place(
            init.config, config.mesh, config.rules, batch_size=config.batch_size
        )
        self._writer = Writer(
            self._placement.model,
            init.vocabulary.special_tokens,
            num_tokens=init.vocabulary.num_tokens,
            max_length=config.objective.targets_length,
            decoding=config.decoding(),
        )
        with jax.set_mesh(self._placement.mesh):
            self._params = self._writer.prepare(init.restore(self._placement.params))

    def answers(self, texts: Sequence[str]) -> Iterator[list[str]]:
        """Yields the answers to each text, the best first."""
        config, batch_size = self._config, self._config.batch_size
        prompts = self._prompts(texts)
        # Texts of like length together: each batch is as short as it can be. What is written does not depend on it.
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        written: dict[int, list[str]] = {}
        next_one = 0
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = self._batch([prompts[index] for index in chosen])
            seeds = np.zeros(batch_size, np.uint32)
            seeds[: len(chosen)] = [(config.seed + index) % 2**32 for index in chosen]
            with jax.set_mesh(self._placement.mesh):
                tokens = jax.device_get(self._writer(self._params, batch, seeds).tokens)
            for index, rows in zip(chosen, tokens, strict=False):
                written[index] = [self._vocabulary.decode(ids) for ids in rows]
            while next_one in written:
                yield written.pop(next_one)
                next_one += 1

    def parts(self, text: str) -> Iterator[str]:
        """Yields the answer to one text as it is written."""
        batch = self._batch(self._prompts([text]))
        seeds = np.full(self._config.batch_size, self._config.seed, np.uint32)
        ids: list[int] = []
        shown = ""
        with jax.set_mesh(self._placement.mesh):
            for tokens in self._writer.stream(self._params, batch, seeds):
                ids.append(int(tokens[0]))
                so_far = self._vocabulary.decode(ids)
                # The bytes of a character may be spread over several tokens: wait until they make one.
                if so_far.startswith(shown) and not so_far.endswith("\N{REPLACEMENT CHARACTER}"):
                    yield so_far[len(shown) :]
                    shown = so_far
        yield self._vocabulary.decode(ids)[len(shown) :]

    def _prompts(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the ids of each text, with the marks of its family: an encoder reads to the end mark."""
        special_tokens, longest = self._vocabulary.special_tokens, self._config.objective.inputs_length
        encoded = self._vocabulary.encode_batch(list(texts))
        if not self._placement.model.config.num_encoder_layers:
            return [ids[-longest:] for ids in encoded]  # what is written goes on from the end
        marks = (special_tokens.begin_ids, [special_tokens.eos_id])
        return [np.concatenate([marks[0], ids, marks[1]]).astype(np.int32)[:longest] for ids in encoded]

    def _batch(self, prompts: Sequence[np.ndarray]) -> dict[str, jax.Array]:
        """Returns a batch of the prompts, filled with rows of padding."""
        config = self._config
        length = bucket_length(max(map(len, prompts)), config.objective.inputs_length)
        prompts = [*prompts, *[np.zeros(0, np.int32)] * (config.batch_size - len(prompts))]
        pad_id = self._vocabulary.special_tokens.pad_id
        if not self._placement.model.config.num_encoder_layers:
            return put_batch(prompt_rows(prompts, length, pad_id=pad_id), self._placement.batch)
        tokens = np.full((len(prompts), length), pad_id, np.int32)
        segment_ids = np.zeros((len(prompts), length), np.int32)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = prompt
            segment_ids[row, : len(prompt)] = 1
        batch = {"encoder_input_tokens": tokens, "encoder_segment_ids": segment_ids}
        return put_batch(batch, self._placement.batch)


def check_can_write(model: TransformerConfig, config: Generate) -> None:
    """Returns if the model has a decoder, a head that speaks, and positions enough.

    Raises:
      UserError: it has not.
    """
    if not model.num_decoder_layers or model.head != "language_model":
        raise UserError(
            f"{COMMAND} needs a model with a decoder and a language model's head; {config.init} has none."
        )
    longest = config.objective.targets_length
    if model.max_length is None:
        return
    if not model.num_encoder_layers:
        longest += config.objective.inputs_length
    longest = max(longest, config.objective.inputs_length)
    if longest > model.max_length:
        raise UserError(
            f"--objective.inputs_length {config.objective.inputs_length} and --objective.targets_length "
            f"{config.objective.targets_length} need {longest} positions, but {config.init} has {model.max_length}; lower them."
        )


def read_inputs(config: Generate) -> list[str]:
    """Returns the texts to write on, from wherever the config says.

    Raises:
      UserError: if there are none, or the file cannot be read as UTF-8.
    """
    if config.text:
        return list(config.text)
    if config.input_file is None and sys.stdin.isatty():
        print("reading one input a line; end with Ctrl-D", file=sys.stderr)
    origin = "Standard input" if config.input_file is None else f"--input_file {config.input_file}"
    try:
        source = sys.stdin.read() if config.input_file is None else Path(config.input_file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{origin} cannot be read: {error}.") from error
    if not source.strip():
        raise UserError(
            f"{origin} holds nothing to write on: give --text, --input_file, or lines on standard input."
        )
    return source.removesuffix("\n").split("\n")


if __name__ == "__main__":
    from t5like import generate as this_module  # so that configs name t5like.generate, not __main__

    sys.exit(run_entry(this_module.main, needs_one_host=True))
