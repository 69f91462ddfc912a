"""Accumulators stored as arrays come back exactly, and go on as if never stored."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import MeanAccumulator, PairAccumulator, PairRows


def pair(seed: int, rows: int) -> PairAccumulator:
    rng = np.random.default_rng(seed)
    out = PairAccumulator()
    if rows:
        x = rng.normal(size=(rows, 4))
        clusters = rng.integers(0, 5, rows)
        out.update(PairRows.of(x, x + 0.3 * rng.normal(size=x.shape)), clusters)
    return out


@given(st.integers(0, 999), st.integers(0, 40), st.integers(1, 40))
def test_a_stored_pair_goes_on(seed: int, rows: int, more: int) -> None:
    one = pair(seed, rows)
    back = PairAccumulator.from_arrays(one.to_arrays())
    both, again = (a.merge(pair(seed + 1, more)) for a in (one, back))
    assert both.tails() == again.tails()
    assert both.mean("relative_update_norm") == again.mean("relative_update_norm")
    assert both.quantiles([0.1, 0.5]) == again.quantiles([0.1, 0.5])
    assert (back.n_rows, back.n_clusters) == (one.n_rows, one.n_clusters)


def test_a_stored_mean_keeps_unit_and_bounds_where_given() -> None:
    one = MeanAccumulator(unit="nats", bounds=(0.0, 1.0))
    one.update([0.25, 0.75, 0.3], clusters=[0, 0, 1])
    back = MeanAccumulator.from_arrays(one.to_arrays(), unit="nats", bounds=(0.0, 1.0))
    assert back.mean() == one.mean()
    with pytest.raises(ValueError, match="outside"):
        back.update([2.0], clusters=[3])


def test_storing_copies() -> None:
    one = pair(0, 10)
    stored = one.to_arrays()
    one.update(PairRows.of([[1.0, 0.0]], [[0.0, 1.0]]), clusters=[9])
    assert stored["histogram"].sum() == 10
    assert PairAccumulator.from_arrays(stored).n_rows == 10


def test_what_is_no_accumulator_is_refused() -> None:
    stored = pair(0, 3).to_arrays()
    with pytest.raises(ValueError, match="lacks 'range'"):
        PairAccumulator.from_arrays({k: v for k, v in stored.items() if k != "range"})
    with pytest.raises(ValueError, match=r"'histogram' of a stored accumulator has shape \(3,\)"):
        PairAccumulator.from_arrays({**stored, "histogram": np.zeros(3)})
    with pytest.raises(ValueError, match="a stored pair holds 1 measures"):
        PairAccumulator.from_arrays({**stored, **MeanAccumulator().to_arrays()})
    assert math.isinf(PairAccumulator().to_arrays()["range"][0])
