"""Denoising, BART's objective: the sentences of a text are shuffled, spans of it hidden, and all of it is to be written."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from t5like.batch import Features, encoder_decoder_rows
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.objectives.base import Stacks, check_lengths
from t5like.objectives.chunks import Chunks, cut, gather, sentence_ends
from t5like.objectives.masking import count_chosen, mask_id
from t5like.objectives.spans import random_compositions

# No row is as long, and the lengths of all spans of one still add up.
_MAX_MEAN_SPAN_LENGTH = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class BartDenoising:
    """Turns text into encoder-decoder rows whose targets are the text itself.

    First the sentences of a row are put in random order. Then spans of whole words are hidden, each behind a single mask,
    so that the model has to find out how long they were; a span of no words puts a mask between two words. A vocabulary
    without a mask hides text behind its first sentinel, as T5 does.

    Source: BART (arXiv 1910.13461), section 2.2: text infilling and sentence permutation; section 5.1 has the numbers. We
    differ from its code in that spans never overlap and every arrangement of them is equally likely; the share rounds to
    the nearest number of words, not up; there are never more spans than hidden words; and no token is replaced by a
    random one.

    Attributes:
      length: length of a row in tokens, marks included, on either side.
      noise_density: share of the words that are hidden, above 0 and at most 1.
      mean_span_length: mean length of the spans in words, of a Poisson distribution; above 0 and at most a million.
      permutes_sentences: whether sentences are shuffled.
      joins_documents: cut rows out of all documents in a row, without anything between them; False begins a row with each
        document, which leaves rows to pack.

    Raises:
      UserError: a value is out of its range.
    """

    length: int = 512
    noise_density: float = 0.3
    mean_span_length: float = 3.0
    permutes_sentences: bool = True
    joins_documents: bool = True

    def __post_init__(self) -> None:
        check_lengths(self)
        if not 0.0 < self.noise_density <= 1.0:
            raise UserError(f"noise_density must be above 0 and at most 1, not {self.noise_density}.")
        if not 0.0 < self.mean_span_length <= _MAX_MEAN_SPAN_LENGTH:
            raise UserError(
                f"mean_span_length must be above 0 and at most {_MAX_MEAN_SPAN_LENGTH:,} words, not "
                f"{self.mean_span_length}."
            )

    @property
    def stacks(self) -> Stacks:
        """What is left of a text is read by an encoder, and the text written by a decoder."""
        return "encoder_decoder"

    @property
    def makes_pairs(self) -> bool:
        """Rows are of one text each."""
        return False

    @property
    def lengths(self) -> Mapping[str, int]:
        """Tokens in a row."""
        return {"length": self.length}

    def check(self, vocabulary: Vocabulary) -> None:
        """Returns if the vocabulary can hide text, and a row holds text beside its marks; call it at start-up.

        Raises:
          UserError: it cannot, or does not.
        """
        mask_id(vocabulary.special_tokens)
        if self._text_length(vocabulary) < 1:
            raise UserError(
                f"length {self.length} is too short for a text and the marks of the vocabulary; raise it."
            )

    def _text_length(self, vocabulary: Vocabulary) -> int:
        """Returns how many tokens make a full row."""
        special = vocabulary.special_tokens
        return self.length - max(len(special.begin_ids), len(special.target_begin_ids)) - 1

    def __call__(
        self, documents: Sequence[np.ndarray], rng: np.random.Generator, vocabulary: Vocabulary
    ) -> Features:
        """Returns rows of [length] features.

        Of the text [10 12 18 20 28], with begin mark 2 and end mark 1 around both sides, mask 4 and decoder start 1; a
        sentence ends with 18 and with 28, each token is a word, and 28 and 10, neighbours once the sentences have changed
        places, are hidden:

            encoder_input_tokens    [2 20  4 12 18  1  0]
            decoder_target_tokens   [2 10 12 18 20 28  1]
            decoder_input_tokens    [1  2 10 12 18 20 28]

        Args:
          documents: raw ids.
          rng: decides the order of sentences and what is hidden.
        """
        special = vocabulary.special_tokens
        texts = gather(documents, joins_documents=self.joins_documents)
        chunks = cut(texts, self._text_length(vocabulary))
        shuffled, starts_word = chunks, vocabulary.starts_word[chunks.tokens]
        starts_word[chunks.starts] = True
        if self.permutes_sentences:
            shuffled, starts_word = shuffle_sentences(
                chunks, starts_word, sentence_ends(chunks, vocabulary.ends_sentence), rng
            )
        inputs = infill(
            shuffled,
            starts_word,
            noise_density=self.noise_density,
            mean_span_length=self.mean_span_length,
            mask=mask_id(special),
            rng=rng,
        )
        return encoder_decoder_rows(
            *inputs, *chunks, special, inputs_length=self.length, targets_length=self.length
        )


def shuffle_sentences(
    chunks: Chunks, starts_word: np.ndarray, ends: np.ndarray, rng: np.random.Generator
) -> tuple[Chunks, np.ndarray]:
    """Returns the chunks with their sentences in random order, and which tokens start a word in that order.

    Args:
      starts_word: [num_tokens] bool.
      ends: [num_tokens] bool, the last tokens of sentences; a chunk ends one too, and a sentence begins with a word.
    """
    starts = np.concatenate([[True], ends[:-1]])[: len(ends)]
    starts[chunks.starts] = True
    (places,) = np.nonzero(starts)
    sentences = Chunks(chunks.tokens, np.diff(places, append=len(ends)))
    of_chunk = np.searchsorted(chunks.starts, places, side="right")
    order = np.lexsort((rng.random(len(places)), of_chunk))
    flags = Chunks(starts_word | starts, sentences.lengths)
    return Chunks(sentences.take(order).tokens, chunks.lengths), flags.take(order).tokens


def infill(
    chunks: Chunks,
    starts_word: np.ndarray,
    *,
    noise_density: float,
    mean_span_length: float,
    mask: int,
    rng: np.random.Generator,
) -> Chunks:
    """Returns the chunks with spans of words replaced by a mask each; they are no longer than before.

    With spans of two words and of none:  [10 12 14 16 18]  ->  [10 4 16 4 18]

    Args:
      starts_word: [num_tokens] bool, true where a chunk begins.
    """
    (word_starts,) = np.nonzero(starts_word)
    num_words_before = np.searchsorted(word_starts, chunks.starts)
    num_words = np.diff(num_words_before, append=len(word_starts))
    num_hidden = count_chosen(num_words, noise_density)
    spans, num_spans = draw_spans(num_hidden, mean_span_length, rng)
    # Every order of spans and of the words between them is equally likely.
    is_span = np.arange(spans.shape[1]) < num_spans[:, None]
    gaps = random_compositions(num_words - num_hidden + num_spans + 1, num_spans + 1, rng)
    kept_before = gaps[:, : spans.shape[1]] - np.arange(1, spans.shape[1] + 1)
    hidden_before = np.cumsum(spans, axis=1) - spans
    first_words = (num_words_before[:, None] + kept_before + hidden_before)[is_span]
    lengths = spans[is_span]

    bounds = np.append(word_starts, len(chunks.tokens))  # of words, in tokens
    starts, ends = bounds[first_words], bounds[first_words + lengths]
    edges = np.zeros(len(chunks.tokens) + 1, np.int8)
    edges[starts[lengths > 0]] = 1
    edges[ends[lengths > 0]] -= 1
    is_kept = np.cumsum(edges[:-1], dtype=np.int8) == 0
    num_kept_before = np.concatenate([[0], np.cumsum(is_kept)])  # of each token, and in all
    infilled = np.insert(chunks.tokens[is_kept], num_kept_before[starts], np.int32(mask))
    num_kept = num_kept_before[chunks.starts + chunks.lengths] - num_kept_before[chunks.starts]
    return Chunks(infilled, num_kept + num_spans)


def draw_spans(
    num_hidden: np.ndarray, mean_length: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (lengths [num_chunks, most spans], number of spans [num_chunks]), int64; lengths add up to `num_hidden`.

    They are Poisson numbers up to the one that reaches the sum, which is cut down to it, in random order and with 0 after
    the last; so of 5 words [3 0 4 1 ...] gives the spans 3, 0 and 2. As many numbers as words must do.
    """
    spans = rng.poisson(mean_length, (len(num_hidden), int(num_hidden.max(initial=0))))
    sums = np.cumsum(spans, axis=1)
    num_spans = np.minimum(np.count_nonzero(sums < num_hidden[:, None], axis=1) + 1, num_hidden)
    spans, sums = (array[:, : int(num_spans.max(initial=0))] for array in (spans, sums))
    place = np.arange(spans.shape[1])
    is_last, is_span = place == num_spans[:, None] - 1, place < num_spans[:, None]
    spans = np.where(is_last, num_hidden[:, None] - (sums - spans), np.where(is_span, spans, 0))
    keys = np.where(is_span, rng.random(spans.shape), 2.0)
    return np.take_along_axis(spans, np.argsort(keys, axis=1), axis=1), num_spans
