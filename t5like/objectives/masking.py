"""Which tokens of a row a masked language model is asked for, and what it reads in their place."""

import numpy as np

from t5like.batch import SpecialTokens
from t5like.errors import UserError
from t5like.objectives.chunks import positions_in


def mask_id(special_tokens: SpecialTokens) -> int:
    """Returns the id that hides text: the mask, or the first sentinel of a vocabulary without one, as T5 does.

    Raises:
      UserError: there is neither.
    """
    if special_tokens.mask_id is not None:
        return special_tokens.mask_id
    if len(special_tokens.sentinel_ids):
        return int(special_tokens.sentinel_ids[0])
    raise UserError(
        "The vocabulary has neither a mask nor sentinels to hide text with: take one of BERT, RoBERTa, BART or T5."
    )


def count_chosen(num_candidates: np.ndarray, share: float) -> np.ndarray:
    """Returns how many of so many are chosen, int64: the share, halves rounded to even; at least 1 where there are any.

    At a share of 0.15:  [0 1 10 70 90]  ->  [0 1 2 10 14]
    """
    chosen = np.rint(num_candidates * share).astype(np.int64)
    return np.minimum(np.maximum(chosen, 1), num_candidates)


def choose_tokens(is_candidate: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Returns which candidates are chosen, [num_rows, length] bool, `count_chosen` of each row; every choice is equally likely.

    Args:
      is_candidate: [num_rows, length] bool.
    """
    num_chosen = count_chosen(np.count_nonzero(is_candidate, axis=1), share)
    keys = rng.random(is_candidate.shape)
    keys[~is_candidate] = 2.0  # behind all others
    last = np.sort(keys, axis=1)[np.arange(len(keys)), num_chosen - 1]
    return is_candidate & (keys <= last[:, None])


def choose_words(
    is_candidate: np.ndarray, starts_word: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
    """Returns which candidates are chosen, [num_rows, length] bool: all of a word or none.

    The words of a row are gone through in random order, and each is taken that fits into what is left of the row's
    `count_chosen`; where none fits, the first one is taken.

    Source: BERT's whole word masking, which may leave such a row without any.

    Args:
      is_candidate: [num_rows, length] bool.
      starts_word: [num_rows, length] bool; what follows something that is no candidate begins a word, too.
    """
    num_chosen = count_chosen(np.count_nonzero(is_candidate, axis=1), share)
    begins = starts_word.copy()
    begins[:, 0] = True
    begins[:, 1:] |= ~is_candidate[:, :-1]
    words = np.cumsum((begins & is_candidate).ravel())[is_candidate.ravel()] - 1  # of each candidate
    sizes = np.bincount(words)
    rows = np.nonzero(begins & is_candidate)[0]
    order = np.lexsort((rng.random(len(rows)), rows))
    rank = positions_in(np.bincount(rows, minlength=len(is_candidate)))
    most = int(rank.max(initial=-1)) + 1
    by_rank = np.zeros((most, len(is_candidate)), np.int64)  # sizes of the words of each row, in random order
    by_rank[rank, rows] = sizes[order]
    taken, left = np.zeros(by_rank.shape, bool), num_chosen.copy()
    for turn in range(most):
        taken[turn] = by_rank[turn] <= left
        left -= np.where(taken[turn], by_rank[turn], 0)
        if not left.any():
            break
    if most:
        taken[0] |= left == num_chosen
    is_taken = np.empty(len(rows), bool)
    is_taken[order] = taken[rank, rows]
    chosen = np.zeros_like(is_candidate)
    chosen[is_candidate] = is_taken[words]
    return chosen


def hide(
    tokens: np.ndarray,
    chosen: np.ndarray,
    *,
    mask: int,
    mask_rate: float,
    random_rate: float,
    random_ids: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Returns the tokens with each chosen one replaced by the mask, by a random id, or by nothing.

    Args:
      tokens: [num_rows, length] int32.
      chosen: [num_rows, length] bool.
      mask_rate: how many become the mask, of all chosen.
      random_rate: how many become one of `random_ids`; the rest stay as they are.
    """
    hidden = tokens.copy()
    old = tokens[chosen]
    fate = rng.random(len(old))
    random = random_ids[rng.integers(0, len(random_ids), len(old))]
    hidden[chosen] = np.select([fate < mask_rate, fate < mask_rate + random_rate], [mask, random], old)
    return hidden
