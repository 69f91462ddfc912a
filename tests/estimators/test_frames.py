"""Results as data frames: every number is there, beside its interval."""

from __future__ import annotations

import numpy as np
import pytest

from estimators import Estimate, frames, profile_states, to_pandas
from estimators.extras import MissingExtra
from estimators.frames import frame_of


def estimate(value):
    return Estimate(value=value, interval=(value - 1, value + 2), n=9, method="m")


def test_an_estimate_has_three_columns_and_a_mapping_one_for_each_name():
    frame = frame_of([{"a": 1, "b": estimate(5.0), "c": {"d": estimate(7.0), "e": None}}])
    row = frame.iloc[0].to_dict()
    assert row == {
        **{"a": 1, "b": 5.0, "b_low": 4.0, "b_high": 7.0},
        **{"c.d": 7.0, "c.d_low": 6.0, "c.d_high": 9.0, "c.e": None},
    }


def test_a_record_is_a_row():
    frame = to_pandas([estimate(1.0), estimate(2.0)])
    assert frame["value"].tolist() == [1.0, 2.0]
    assert frame["n"].tolist() == [9, 9]
    with pytest.raises(TypeError, match="made of records, got dict"):
        to_pandas([{"a": 1}])


def test_a_profile_has_a_row_for_each_group_measure_and_layer():
    rng = np.random.default_rng(0)
    states = [rng.normal(size=(20, 4)) for _ in range(4)]
    found = profile_states(states, clusters=range(20))
    frame = found.to_pandas()
    assert len(frame) == sum(3 * len(table) for table in found.measures.values())
    one = frame[(frame.group == "all") & (frame.measure == "cosine_distance")]
    assert one.layer.tolist() == [0, 1, 2]
    assert one.value.tolist() == found.values("all", "cosine_distance").tolist()
    assert one.value_low.tolist() == [
        e.interval[0] for e in found.estimates("all", "cosine_distance")
    ]


def test_without_pandas_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("estimators.extras.installed", lambda module: module != "pandas")
    with pytest.raises(MissingExtra, match=r"pip install 'skipit\[pandas\]'"):
        frames.to_pandas([])
