"""Entry point: train a model on text, from scratch or from another run's parameters.

t5like pretrain configs/tiny.py --workdir runs/tiny --optimizer.schedule.peak 2e-3
"""

import dataclasses
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import numpy as np
import tyro

from t5like import outcome, shared_workdir
from t5like import workdir as workdirs
from t5like.batch import Features, trained_stack
from t5like.config import parse_command_line, to_json
from t5like.data.encoded import Encoded
from t5like.data.lanes import ONLY_HOST, HostShare
from t5like.data.mixture import Mixture
from t5like.data.pipeline import pretraining_batches, print_note
from t5like.data.quarantine import Blocks
from t5like.data.sentencepiece_vocabulary import (
    MAX_TRAINING_CHARACTERS,
    SentencePieceVocabulary,
    train_vocabulary,
)
from t5like.data.sources import EMBEDDED
from t5like.data.sources.base import Source
from t5like.data.splits import TextSplits, open_splits
from t5like.data.token_store import open_store
from t5like.data.vocabulary import Vocabulary, find_vocabulary
from t5like.distributed import host_share, is_first_host, join_hosts
from t5like.entry import run_entry
from t5like.errors import UserError
from t5like.evaluation import held_out_loss, ngram_score, unigram_score
from t5like.loop import Evaluator
from t5like.models.config import TransformerConfig
from t5like.objectives.pretraining import AnyObjective
from t5like.optim.base import require_at_least_zero, require_positive
from t5like.phases import limited
from t5like.preemption import listening
from t5like.public_model import PublicModel
from t5like.samples import pretraining_samples
from t5like.scores import Score
from t5like.trained_model import Init, load_model
from t5like.training import TrainingConfig, check_lengths, check_stacks, place_to_train, train

COMMAND = "t5like pretrain"

# Training targets that the n-gram model beside the final loss is fitted on, at most.
MAX_NGRAM_TOKENS = 2_000_000

# How a model computes, not what: a run may differ in these from the run whose parameters it starts from.
MAY_DIFFER_FROM_INIT = (
    "unrolls_scan",
    *("dropout_rate", "dropout_spots", "shares_dropout", "init_stddev"),
    *("compute_dtype", "attention", "remat", "remat_names"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrain(TrainingConfig):
    """Everything that decides a pretraining run."""

    model: TransformerConfig
    objective: AnyObjective
    data: str = EMBEDDED
    """Text to train on: embedded; a file, folder or glob of text, .jsonl, .parquet, .arrow, .tfrecord or .array_record,
    here or at a URL such as gs://...; or tfds:name."""
    mixture: tyro.conf.Fixed[Mixture | None] = None
    """Several texts and how much of each, in place of `data`; for config files."""
    validation_data: str | None = None
    """Held-out text, as `data`; None takes the data's own validation split, or holds out one block in fifty."""
    text_field: str = "text"
    """The field that holds the text, where texts are in records."""
    packs_rows: bool = False
    """Put several examples in a row, as far as they fit; for objectives that do not join documents."""
    max_damaged_blocks: int = 0
    """Records that may be left out because they are damaged, and blocks that cannot be read; one more ends the run."""
    vocabulary: str | None = None
    """A SentencePiece model, the folder of a public model or of a workdir's vocabulary, or bytes; None trains one."""
    vocabulary_size: int = 4096
    """Pieces of a vocabulary that is trained, sentinels not counted."""
    vocabulary_extra_ids: int = 100
    """Sentinels added to a SentencePiece model that is named or trained; folders and bytes have their own."""
    token_store: str | None = None
    """Folder in which `t5like tokenize` keeps the ids of texts; what it does not hold is tokenised as it is read."""
    init: str | None = None
    """Workdir of an earlier run, or hf:FOLDER of a public model, whose parameters and vocabulary to start from; None
    draws fresh ones."""
    max_eval_rows: int = 256
    """Held-out rows that each evaluation uses, at most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "vocabulary_size", "max_eval_rows")
        require_at_least_zero(self, "vocabulary_extra_ids", "max_damaged_blocks")


def main(argv: list[str]) -> None:
    """Trains what the command line says, and writes the report."""
    config, options = parse_command_line(argv, command=COMMAND, config_class=Pretrain)
    if options.prints_config:
        print(to_json(config))
        return
    if options.workdir is None:
        raise UserError(f"{COMMAND} needs --workdir, the folder the run is written to.")
    with listening(), limited(config.deadlines):
        pretrain(config, options.workdir)


def pretrain(config: Pretrain, workdir: Path) -> dict[str, Any]:
    """Trains or resumes the run of a workdir; returns its evaluation as written to evaluation.json.

    Of several hosts the first alone writes it; the others return nothing in it.

    Raises:
      UserError: for input that cannot work; nothing has been written then.
    """
    join_hosts()
    resume_step = shared_workdir.find_resume_step(workdir, config)
    init = load_model(config.init) if config.init and resume_step is None else None
    text = read_text(config)
    if resume_step is not None:
        model, vocabulary = workdirs.load_description(workdir)
    else:
        vocabulary = choose_vocabulary(config, text, init)
        model = resolve_model(config.model, vocabulary, init)
    check_stacks(model, config.objective, COMMAND)
    check_lengths(model, COMMAND, **config.objective.lengths)
    config.objective.check(vocabulary)
    placement = place_to_train(config, model)

    # What is written down of a batch is written by one host, which makes all its rows.
    share = ONLY_HOST if config.audits_examples else host_share(placement.batch, config.batch_size)
    batches = training_batches(config, text, vocabulary, share)
    rows = text.held_out_rows(
        config.objective,
        vocabulary,
        seed=config.seed,
        max_rows=config.max_eval_rows,
        max_damaged_blocks=config.max_damaged_blocks,
    )
    evaluate = held_out_loss(
        placement.model,
        rows,
        batch_size=config.batch_size,
        sharding=placement.batch,
        loss_chunks=config.loss_chunks,
    )
    state = train(
        config,
        placement,
        batches,
        workdir=workdir,
        data_sha256=text.fingerprint,
        resume_step=resume_step,
        vocabulary=vocabulary,
        evaluators=(Evaluator(config.eval_every_steps, evaluate),),
        init=init,
        description="pretraining",
        share=share,
    )
    samples = pretraining_samples(
        placement.model, state.params, rows, vocabulary=vocabulary, sharding=placement.batch
    )
    if not is_first_host():
        return {}
    scores = final_scores(config, text, vocabulary, outcome.last_validation(workdir), rows)
    return outcome.conclude(workdir, scores, samples)


def final_scores(
    config: Pretrain,
    text: TextSplits,
    vocabulary: Vocabulary,
    metrics: Mapping[str, float],
    rows: Sequence[Features],
) -> list[Score]:
    """Returns the held-out loss beside what single tokens and n-grams give on the same rows.

    The n-gram model is of no more rows than the run has seen, and of no more tokens than take a few seconds.
    """
    scores = [unigram_score(metrics, rows)]
    length = len(rows[0][f"{trained_stack(rows[0])}_target_tokens"])
    try:
        training_rows = text.training_rows(
            config.objective,
            vocabulary,
            seed=config.seed,
            max_rows=min(config.num_steps * config.batch_size, max(1, MAX_NGRAM_TOKENS // length)),
            max_damaged_blocks=config.max_damaged_blocks,
        )
        scores.append(ngram_score(metrics, rows, training_rows, num_tokens=vocabulary.num_tokens))
    except UserError as error:  # the run is done, and the data need not be there any more
        print_note(f"there is no n-gram model to compare with: {error}")
    return scores


def training_batches(
    config: Pretrain, text: TextSplits, vocabulary: Vocabulary, host: HostShare = ONLY_HOST
) -> grain.DatasetIterator[Features]:
    """Returns the batches of a run, from the first on; see `pretraining_batches`."""
    return pretraining_batches(
        [open_documents(source, vocabulary, config.token_store) for source in text.train],
        shares=text.shares,
        objective=config.objective,
        vocabulary=vocabulary,
        batch_size=config.batch_size,
        seed=config.seed,
        packs_rows=config.packs_rows,
        max_damaged_blocks=config.max_damaged_blocks,
        host=host,
    )


def read_text(config: Pretrain) -> TextSplits:
    """Returns the texts to train on and those held out."""
    return open_splits(
        config.data,
        validation_data=config.validation_data,
        text_field=config.text_field,
        mixture=config.mixture,
    )


def open_documents(source: Source, vocabulary: Vocabulary, token_store: str | None) -> Blocks[np.ndarray]:
    """Returns the ids of a source's texts: those of a token store as far as there is one."""
    if token_store is None:
        return Encoded(source, vocabulary)
    store = open_store(Path(token_store).expanduser(), source, vocabulary, note=print_note)
    if store is None:
        print_note(
            f"{token_store} does not hold {source.location} as it is, in this vocabulary: it is tokenised as it is read"
        )
        return Encoded(source, vocabulary)
    if not store.is_complete:
        print_note(
            f"{store.folder} holds {store.num_parts_stored} of {store.num_parts} parts of {source.location}: the others "
            "are tokenised as they are read"
        )
    return store


def choose_vocabulary(config: Pretrain, text: TextSplits, init: Init | None) -> Vocabulary:
    """Returns the vocabulary of a new run: that of `init`, the one the config names, or one trained on the text.

    Raises:
      UserError: if the config names another vocabulary than the one `init` was trained with.
    """
    if config.vocabulary is not None:
        vocabulary = find_vocabulary(config.vocabulary, extra_ids=config.vocabulary_extra_ids)
        if init is not None and init.vocabulary.sha256 != vocabulary.sha256:
            raise UserError(
                f"The vocabulary {config.vocabulary} does not match the checkpoint {config.init}, which was trained "
                "with another one; leave vocabulary out to use the checkpoint's own."
            )
        return vocabulary
    if init is not None:
        return init.vocabulary
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spiece.model"
        print(f"training a vocabulary of {config.vocabulary_size} pieces ...", file=sys.stderr)
        texts = text.sample(MAX_TRAINING_CHARACTERS, max_damaged_blocks=config.max_damaged_blocks)
        train_vocabulary(texts, size=config.vocabulary_size, path=path)
        return SentencePieceVocabulary.load(path, extra_ids=config.vocabulary_extra_ids)


def resolve_model(model: TransformerConfig, vocabulary: Vocabulary, init: Init | None) -> TransformerConfig:
    """Returns the model with its number of embedding rows filled in.

    Raises:
      UserError: if it has fewer rows than the vocabulary has ids, or is another model than `init` holds.
    """
    if model.num_embeddings is None:
        num_embeddings = vocabulary.num_embeddings if init is None else init.config.num_embeddings
        model = dataclasses.replace(model, num_embeddings=num_embeddings)
    if init is not None:
        for field in dataclasses.fields(model):
            given, trained = getattr(model, field.name), getattr(init.config, field.name)
            may_differ = (
                (*MAY_DIFFER_FROM_INIT, "scans_layers")
                if isinstance(init, PublicModel)
                else MAY_DIFFER_FROM_INIT
            )
            if given != trained and field.name not in may_differ:
                raise UserError(
                    f"model.{field.name} is {given!r}, but the model of --init {init.origin} has {trained!r}; "
                    "give the config the model it starts from."
                )
    assert model.num_embeddings is not None
    if model.num_embeddings < vocabulary.num_tokens:
        raise UserError(
            f"model.num_embeddings is {model.num_embeddings}, fewer than the {vocabulary.num_tokens} ids of the "
            f"vocabulary; set it to {vocabulary.num_embeddings} or leave it out."
        )
    return model


if __name__ == "__main__":
    from t5like import pretrain as this_module  # so that configs name t5like.pretrain, not __main__

    sys.exit(run_entry(this_module.main, is_watched=True, spans_hosts=True))
