"""Entry point: let a trained model write, greedily.

t5like generate --init runs/sst2 --text "sst2 sentence: a joy from start to end"
t5like generate --init runs/books < inputs.txt
"""

import dataclasses
import sys
from pathlib import Path

import jax

from t5like import workdir as workdirs
from t5like.batch import without_ids
from t5like.config import parse_command_line, to_json
from t5like.data.pipeline import evaluation_batches
from t5like.entry import run_entry
from t5like.errors import UserError
from t5like.evaluation import greedy_decoder
from t5like.finetune import tokenize
from t5like.objectives.text_to_text import TextToText
from t5like.sharding import AxisRules, MeshShape, put_batch
from t5like.tasks.base import Example
from t5like.training import place

COMMAND = "t5like generate"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generate:
    """What to write on, with which model."""

    init: str | None = None
    """Workdir of the run whose newest checkpoint writes."""
    text: tuple[str, ...] = ()
    """The inputs, one answer each; none: one a line from --input_file, else from standard input."""
    input_file: str | None = None
    objective: TextToText = TextToText(inputs_length=256, targets_length=64)
    """Lengths that inputs are cut to and answers end at."""
    batch_size: int = 8
    mesh: MeshShape = MeshShape()
    rules: AxisRules = AxisRules()

    def __post_init__(self) -> None:
        if self.text and self.input_file is not None:
            raise UserError(f"{COMMAND} reads --text or --input_file, not both; leave one out.")


def main(argv: list[str]) -> None:
    """Prints one line for every input."""
    config, options = parse_command_line(argv, command=COMMAND, config_class=Generate, default=Generate())
    if options.prints_config:
        print(to_json(config))
        return
    if options.workdir is not None:
        raise UserError(f"{COMMAND} writes no files; leave out --workdir {options.workdir}.")
    for answer in generate(config):
        print(answer)


def generate(config: Generate) -> list[str]:
    """Returns what the model writes for each input.

    Raises:
      UserError: for input that cannot work.
    """
    if config.init is None:
        raise UserError(f"{COMMAND} needs --init, the workdir of the run that shall write.")
    init = workdirs.load_model(Path(config.init))
    texts = read_inputs(config)
    placement = place(init.config, config.mesh, config.rules, batch_size=config.batch_size)
    examples = [Example(text, "", index) for index, text in enumerate(texts)]
    rows = tokenize(examples, config.objective, init.vocabulary)
    with jax.set_mesh(placement.mesh):
        params = init.restore(placement.params)
        decode = greedy_decoder(
            placement.model,
            eos_id=init.vocabulary.special_tokens.eos_id,
            max_length=config.objective.targets_length,
        )
        answers = []
        for batch in evaluation_batches(rows, batch_size=config.batch_size):
            decoded = jax.device_get(decode(params, put_batch(without_ids(batch), placement.batch)))
            answers += [init.vocabulary.decode(ids) for ids in decoded]
    return answers[: len(texts)]


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
            f"{COMMAND} has nothing to write on: give --text, --input_file, or lines on standard input."
        )
    return source.removesuffix("\n").split("\n")


if __name__ == "__main__":
    from t5like import generate as this_module  # so that configs name t5like.generate, not __main__

    sys.exit(run_entry(this_module.main))
