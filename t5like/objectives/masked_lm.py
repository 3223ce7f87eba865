"""Masked language modelling, BERT's objective: an encoder alone fills in what is hidden, of one text or of pairs."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from t5like.batch import Features, encoder_pair_rows, encoder_rows
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.objectives.base import Stacks, check_lengths
from t5like.objectives.chunks import Chunks, cut, gather
from t5like.objectives.masking import choose_tokens, choose_words, hide, mask_id
from t5like.objectives.pairs import SecondText, make_pairs


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedLM:
    """Turns text into rows of an encoder, in which some tokens are hidden and asked for.

    Of the tokens of a row that are no marks, `noise_density` are chosen. Most become the mask, some a random token, and
    some stay; the loss is on all of them. A vocabulary without a mask hides text behind its first sentinel, as T5 does.

    Pairs are pieces of one document that follow one another, whole sentences as far as they fit into half a row. Half
    of the pairs have their second texts exchanged or their texts swapped; a group of texts that is mostly one document
    has fewer exchanged ones. The last token of a document may be left over, and is in no row then.

    Source: BERT (arXiv 1810.04805), section 3.1, and its public code; RoBERTa (arXiv 1907.11692), section 4.2, for rows
    of whole documents one after another with a mark between them; ALBERT (arXiv 1909.11942), section 3.1, for the order
    of sentences. We differ in that the share is of the tokens that can be chosen, not of the marks as well; that the
    unknown token is never chosen; that rows of one text end wherever they are full, not with a sentence; that second
    texts are exchanged among pairs, so that no text is read twice; and that no row is short by intention.

    Attributes:
      length: length of a row in tokens, marks included.
      noise_density: share of the tokens that are chosen, above 0 and at most 1.
      mask_rate: share of the chosen tokens that become the mask.
      random_rate: share of the chosen tokens that become any token; the rest stay.
      whole_word: choose all tokens of a word or none.
      second_text: None: rows are of one text. next_sentence: of pairs, half with the second text of another document.
        sentence_order: of pairs, half of them swapped.
      joins_documents: cut rows of one text out of all documents in a row; False begins a row with each document, which
        leaves rows to pack. Pairs are never joined.

    Raises:
      UserError: a value is out of its range.
    """

    length: int = 512
    noise_density: float = 0.15
    mask_rate: float = 0.8
    random_rate: float = 0.1
    whole_word: bool = False
    second_text: SecondText | None = None
    joins_documents: bool = True

    def __post_init__(self) -> None:
        check_lengths(self)
        if not 0.0 < self.noise_density <= 1.0:
            raise UserError(f"noise_density must be above 0 and at most 1, not {self.noise_density}.")
        if not (
            self.mask_rate >= 0.0 and self.random_rate >= 0.0 and self.mask_rate + self.random_rate <= 1.0
        ):
            raise UserError(
                f"mask_rate and random_rate are shares that add up to at most 1, not {self.mask_rate} and "
                f"{self.random_rate}."
            )

    @property
    def stacks(self) -> Stacks:
        """An encoder alone."""
        return "encoder"

    @property
    def makes_pairs(self) -> bool:
        """Whether there is a second text."""
        return self.second_text is not None

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
            texts = "two texts" if self.makes_pairs else "a text"
            raise UserError(
                f"length {self.length} is too short for {texts} and the marks of the vocabulary; raise it."
            )

    def _text_length(self, vocabulary: Vocabulary) -> int:
        """Returns how many tokens a text of a row may have."""
        special = vocabulary.special_tokens
        room = self.length - len(special.begin_ids) - 1
        return (room - len(special.separator_ids)) // 2 if self.makes_pairs else room

    def __call__(
        self, documents: Sequence[np.ndarray], rng: np.random.Generator, vocabulary: Vocabulary
    ) -> Features:
        """Returns rows of [length] features, and [num_rows] labels of pairs.

        Of the text [11 12 13 14 15], with begin mark 2, end mark 1, mask 4, and the tokens 12 and 14 chosen, of which
        the second is replaced by the random token 37:

            encoder_input_tokens    [2 11  4 13 37 15 1]
            encoder_target_tokens   [2 11 12 13 14 15 1]
            encoder_loss_weights    [0  0  1  0  1  0 0]

        Args:
          documents: raw ids.
          rng: decides what is hidden, and which pairs are spoilt.
        """
        rows = (
            self._pairs(documents, rng, vocabulary)
            if self.makes_pairs
            else self._texts(documents, vocabulary)
        )
        tokens = rows["encoder_input_tokens"]
        is_candidate = (rows["encoder_segment_ids"] > 0) & ~vocabulary.is_special[tokens]
        if self.whole_word:
            starts_word = vocabulary.starts_word[tokens]
            chosen = choose_words(is_candidate, starts_word, self.noise_density, rng)
        else:
            chosen = choose_tokens(is_candidate, self.noise_density, rng)
        hidden = hide(
            tokens,
            chosen,
            mask=mask_id(vocabulary.special_tokens),
            mask_rate=self.mask_rate,
            random_rate=self.random_rate,
            random_ids=np.flatnonzero(~vocabulary.is_special).astype(np.int32),
            rng=rng,
        )
        return {
            **rows,
            "encoder_input_tokens": hidden,
            "encoder_target_tokens": tokens,
            "encoder_loss_weights": chosen.astype(np.float32),
        }

    def _texts(self, documents: Sequence[np.ndarray], vocabulary: Vocabulary) -> Features:
        special = vocabulary.special_tokens
        end_ids = (special.eos_id,) if self.joins_documents else ()
        texts = gather(documents, joins_documents=self.joins_documents, end_ids=end_ids)
        if end_ids:  # after the last document the row has its own
            texts = Chunks(texts.tokens[:-1], texts.lengths - 1)
        chunks = cut(texts, self._text_length(vocabulary))
        return encoder_rows(*chunks, special, length=self.length)

    def _pairs(
        self, documents: Sequence[np.ndarray], rng: np.random.Generator, vocabulary: Vocabulary
    ) -> Features:
        assert self.second_text is not None
        first, second, labels = make_pairs(
            documents,
            longest=self._text_length(vocabulary),
            ends_sentence=vocabulary.ends_sentence,
            second_text=self.second_text,
            rng=rng,
        )
        rows = encoder_pair_rows(*first, *second, vocabulary.special_tokens, length=self.length)
        return {**rows, "next_sentence_labels": labels}
