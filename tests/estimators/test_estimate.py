import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import Estimate

FLOATS = st.floats(allow_nan=False)


def make(**changes):
    fields = {"value": 0.5, "interval": (0.4, 0.6), "n": 30, "method": "t"}
    return Estimate(**{**fields, **changes})


@given(value=FLOATS, ends=st.tuples(FLOATS, FLOATS), level=st.floats(0.01, 0.99))
def test_json_round_trip_is_strict_and_lossless(value, ends, level):
    low, high = sorted(ends)
    one = make(value=value, interval=(low, high), level=level, diagnostics={"k": 3, "s": "x"})
    text = json.dumps(one.to_json(), allow_nan=False)
    assert Estimate.from_json(json.loads(text)) == one


def test_nan_survives_the_round_trip():
    back = Estimate.from_json(make(value=math.nan).to_json())
    assert math.isnan(back.value)


def test_json_names_type_and_schema():
    data = make().to_json()
    assert (data["type"], data["schema_version"]) == ("Estimate", 1)


def test_numpy_numbers_become_plain():
    one = make(value=np.float32(0.5), diagnostics={"rows": np.int64(7)})
    assert type(one.value) is float
    assert type(one.diagnostics["rows"]) is int


def test_estimates_can_be_hashed_and_compared():
    assert len({make(), make(), make(n=31)}) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": 1.0}, "level must lie strictly between 0 and 1, got 1.0"),
        ({"interval": (1.0, 0.0)}, r"wrong order: \(1.0, 0.0\)"),
        ({"n": 0}, "n and d count from 1, got n=0, d=1"),
        ({"reliable": False}, "an unreliable estimate needs a reason"),
        ({"reason": "odd"}, "a reliable one has none"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "Profile"}, "not of type Estimate"),
        ({"schema_version": 2}, "schema version 2; this code reads version 1"),
        ({"colour": "red"}, "does not know colour"),
    ],
)
def test_foreign_json_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Estimate.from_json({**make().to_json(), **change})


def test_missing_fields_are_named():
    data = make().to_json()
    del data["unit"]
    with pytest.raises(ValueError, match="lacks unit"):
        Estimate.from_json(data)


def test_json_that_is_no_object_is_refused():
    with pytest.raises(ValueError, match="not of type Estimate"):
        Estimate.from_json([1, 2])


def test_text_says_why_it_is_unreliable():
    text = str(make(reliable=False, reason="only 3 clusters", unit="nats"))
    assert text == "0.5 nats [0.4, 0.6] (95 %, n=30, t; unreliable: only 3 clusters)"
