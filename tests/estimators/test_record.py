"""`Record`: what goes in comes back, in strict JSON, and nothing else is taken."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators.record import Record

numbers = st.floats(allow_nan=False)
words = st.text(max_size=5)


@dataclass(frozen=True)
class Inner(Record):
    value: float


@dataclass(frozen=True)
class Outer(Record):
    SCHEMA_VERSION: ClassVar[int] = 3
    DERIVED: ClassVar[tuple[str, ...]] = ("count",)

    inner: tuple[Inner, ...]
    pair: tuple[float, str]
    table: Mapping[str, tuple[tuple[float, ...], ...]]
    by_name: Mapping[str, Inner] = field(hash=False)
    maybe: Inner | None
    either: float | str
    whole: int = 1
    sure: bool = True

    @property
    def count(self) -> int:
        return len(self.inner)


inners = st.builds(Inner, numbers)
outers = st.builds(
    Outer,
    inner=st.lists(inners, max_size=3).map(tuple),
    pair=st.tuples(numbers, words),
    table=st.dictionaries(
        words, st.lists(st.lists(numbers, max_size=2).map(tuple), max_size=2).map(tuple), max_size=2
    ),
    by_name=st.dictionaries(words, inners, max_size=2),
    maybe=st.none() | inners,
    either=numbers | words,
    whole=st.integers(),
    sure=st.booleans(),
)


@given(outers)
def test_a_record_comes_back_through_strict_json(one):
    text = one.dumps()
    assert "NaN" not in text
    assert Outer.from_json(json.loads(text)) == one


@given(outers)
def test_the_json_says_what_it_is_and_holds_what_follows(one):
    data = one.to_json()
    assert (data["type"], data["schema_version"], data["count"]) == ("Outer", 3, len(one.inner))


def test_nan_and_infinities_come_back_as_numbers():
    assert math.isnan(Inner.from_json(json.loads(Inner(math.nan).dumps())).value)
    for end in (math.inf, -math.inf):
        assert Inner.from_json(json.loads(Inner(end).dumps())).value == end


def test_nan_among_several_types_comes_back_as_a_number():
    whole = Outer((), (0.0, ""), {}, {}, None, math.nan)
    assert math.isnan(Outer.from_json(json.loads(whole.dumps())).either)


def test_numbers_of_numpy_become_plain():
    assert json.loads(Inner(np.float32(0.5)).dumps())["value"] == 0.5
    assert Inner(np.int64(2)).to_json()["value"] == 2


@given(outers, st.sampled_from(["inner", "pair", "table", "by_name", "maybe", "either"]))
def test_a_missing_field_is_named(one, name):
    data = one.to_json()
    del data[name]
    with pytest.raises(ValueError, match=f"Outer version 3 lacks {name}"):
        Outer.from_json(data)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "Inner"}, "not of type Outer"),
        ({"schema_version": 2}, "schema version 2; this code reads version 3"),
        ({"more": 1}, "does not know more"),
        ({"schema_version": 3.0}, "schema version 3.0; this code reads version 3"),
        ({"schema_version": "3"}, "schema version '3'; this code reads version 3"),
        ({"inner": 5}, "Outer.inner: expected a list, got 5"),
        ({"inner": "ab"}, "Outer.inner: expected a list, got 'ab'"),
        ({"inner": None}, "Outer.inner: expected a list, got None"),
        ({"pair": [1.0]}, r"Outer.pair: expected a list of 2 values, got \[1.0\]"),
        ({"pair": [True, ""]}, r"Outer.pair\[0\]: expected a number, got True"),
        ({"pair": ["1.5", ""]}, r"Outer.pair\[0\]: expected a number, got '1.5'"),
        ({"pair": ["nan", ""]}, r"Outer.pair\[0\]: expected a number, got 'nan'"),
        ({"pair": ["infinity", ""]}, r"Outer.pair\[0\]: expected a number, got 'infinity'"),
        ({"pair": [10**400, ""]}, r"Outer.pair\[0\]: expected a number below 1.8e308, got 1000"),
        ({"pair": [1.0, 2]}, r"Outer.pair\[1\]: expected text, got 2"),
        ({"table": [1]}, r"Outer.table: expected an object, got \[1\]"),
        ({"table": {"a": [[1, []]]}}, r"Outer.table.a\[0\]\[1\]: expected a number, got \[\]"),
        ({"by_name": {"a": 1}}, "Outer.by_name.a: this JSON is not of type Inner"),
        (
            {"maybe": {"type": "Inner", "schema_version": 1, "value": "x"}},
            "Outer.maybe: Inner.value: expected a number, got 'x'",
        ),
        ({"either": [1]}, r"Outer.either: expected float or str, got \[1\]"),
        ({"either": True}, "Outer.either: expected float or str, got True"),
        ({"whole": 1.0}, "Outer.whole: expected a whole number, got 1.0"),
        ({"whole": True}, "Outer.whole: expected a whole number, got True"),
        ({"whole": "1"}, "Outer.whole: expected a whole number, got '1'"),
        ({"whole": None}, "Outer.whole: expected a whole number, got None"),
        ({"sure": 1}, "Outer.sure: expected true or false, got 1"),
    ],
)
def test_anything_else_is_refused(change, said):
    good = Outer((Inner(1.0),), (0.0, ""), {}, {}, None, "a").to_json()
    with pytest.raises(ValueError, match=said):
        Outer.from_json(good | change)


@pytest.mark.parametrize("data", [None, [1], 3])
def test_what_is_no_object_is_refused(data):
    with pytest.raises(ValueError, match="not of type Inner"):
        Inner.from_json(data)


@pytest.mark.parametrize("data", ["{}", b"{}", Path("inner.json")])
def test_text_and_paths_are_sent_to_what_reads_them(data):
    with pytest.raises(ValueError, match=r"Inner.from_json takes a dict, got .*json.loads"):
        Inner.from_json(data)
    with pytest.raises(ValueError, match=r"ReadInner.read\(path\) reads a file"):
        ReadInner.from_json(data)


class ReadInner(Inner):
    @classmethod
    def read(cls, path):
        return cls.from_json(json.loads(Path(path).read_text()))
