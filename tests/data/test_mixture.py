"""Laws of mixtures: shares to within a few rows at every moment, and a schedule that is a function of row and seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.data.mixture import Component, Mixture, Schedule, proportional_shares
from t5like.errors import UserError


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6), st.integers(0, 2**40), st.integers(0, 2**50))
def test_every_component_has_its_share_of_any_stretch_of_rows(weights, seed, start):
    shares = np.array(weights) / sum(weights)
    schedule = Schedule(shares, seed=seed)
    components = schedule.components(np.arange(start, start + 4096))
    counts = np.cumsum(components[:, None] == np.arange(len(shares)), axis=0)
    expected = np.arange(1, 4097)[:, None] * shares
    assert np.abs(counts - expected).max() < 6


def test_the_rows_of_one_lane_have_their_shares_too():
    schedule = Schedule((0.7, 0.3), seed=1)
    for lane in range(64):
        components = schedule.components(np.arange(1024) * 64 + lane)
        assert abs(np.count_nonzero(components == 0) - 0.7 * 1024) < 12


def test_a_seed_decides_the_order():
    rows = np.arange(100)
    first, again, other = (Schedule((0.5, 0.5), seed=seed).components(rows).tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_proportional_shares_as_in_the_docstring():
    np.testing.assert_allclose(proportional_shares([400, 100]), (0.8, 0.2))
    np.testing.assert_allclose(proportional_shares([400, 100], temperature=2), (2 / 3, 1 / 3))
    np.testing.assert_allclose(proportional_shares([400, 100], cap=100), (0.5, 0.5))
    np.testing.assert_allclose(proportional_shares([400, 100], scale=0.5, cap=100), (2 / 3, 1 / 3))


def test_rates_are_relative_and_sizes_are_scaled():
    rated = Mixture(components=(Component(data="a", rate=3), Component(data="b", rate=1)))
    np.testing.assert_allclose(rated.shares(), (0.75, 0.25))
    sized = Mixture(
        components=(Component(data="a", num_examples=400), Component(data="b", num_examples=100)), cap=100
    )
    np.testing.assert_allclose(sized.shares(), (0.5, 0.5))


@pytest.mark.parametrize(
    ("components", "settings", "named"),
    [
        ((), {}, "components is empty"),
        ((Component(data="a", rate=1), Component(data="b")), {}, "b has no rate, and others have"),
        ((Component(data="a"),), {}, "a has neither a rate nor num_examples"),
        ((Component(data="a", rate=0),), {}, "rate of a is 0"),
        ((Component(data="a", num_examples=-1),), {}, "num_examples of a is -1"),
        ((Component(data="a", rate=1),), {"temperature": 0.0}, "temperature is 0.0"),
        ((Component(data="a", rate=1),), {"cap": -1.0}, "cap is -1.0"),
    ],
)
def test_what_cannot_be_mixed_is_said_in_a_sentence(components, settings, named):
    with pytest.raises(UserError, match=named):
        Mixture(components=components, **settings)
