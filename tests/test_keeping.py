"""Which checkpoints stay."""

import math

from hypothesis import given
from hypothesis import strategies as st

from t5like.keeping import Keeping, kept_steps

STEPS = [10, 20, 30, 40, 50]
NONE = Keeping(num_newest=0)


def test_each_reason_is_enough() -> None:
    scores = {10: 3.0, 20: 1.0, 30: 2.0, 50: math.nan}
    assert kept_steps(STEPS, {}, Keeping()) == {40, 50}
    assert kept_steps(STEPS, {}, NONE._replace(every_steps=20)) == {20, 40}
    assert kept_steps(STEPS, {}, NONE._replace(pinned=(10, 15))) == {10}
    assert kept_steps(STEPS, scores, NONE._replace(num_best=2)) == {20, 30}
    assert kept_steps(STEPS, scores, NONE._replace(num_best=1, best_is_highest=True)) == {10}
    everything = Keeping(1, every_steps=20, pinned=(10,), num_best=1)
    assert kept_steps(STEPS, {30: 0.5}, everything) == {10, 20, 30, 40, 50}


def test_of_equals_the_earlier_is_the_best() -> None:
    assert kept_steps(STEPS, dict.fromkeys(STEPS, 1.0), NONE._replace(num_best=1)) == {10}
    assert kept_steps(STEPS, dict.fromkeys(STEPS, 1.0), NONE._replace(num_best=1, best_is_highest=True)) == {
        10
    }


@given(
    st.sets(st.integers(0, 100)),
    st.dictionaries(st.integers(0, 100), st.floats(allow_infinity=True)),
    st.builds(
        Keeping,
        num_newest=st.integers(1, 5),
        every_steps=st.none() | st.integers(1, 50),
        pinned=st.lists(st.integers(0, 100)).map(tuple),
        num_best=st.integers(0, 5),
        best_is_highest=st.booleans(),
    ),
)
def test_what_stays_was_there_and_the_newest_is_among_it(
    steps: set[int], scores: dict[int, float], keeping: Keeping
) -> None:
    kept = kept_steps(list(steps), scores, keeping)
    assert kept <= steps
    assert not steps or max(steps) in kept
    if keeping.every_steps is None and not keeping.pinned:
        assert len(kept) <= keeping.num_newest + keeping.num_best
    assert kept_steps(list(kept), scores, keeping) == kept  # asked again, all of it stays
