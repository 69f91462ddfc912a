from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan import MODES, SkipPlan


@st.composite
def plans(draw) -> SkipPlan:
    n = draw(st.integers(1, 40))
    mode = draw(st.sampled_from([m for m in MODES if m != "band" or n > 1]))
    if mode in ("block", "freeze"):
        return SkipPlan(mode, n, layers=tuple(sorted(draw(st.sets(st.integers(0, n - 1))))))
    if mode == "early_exit":
        return SkipPlan(mode, n, exit=draw(st.integers(0, n)))
    if mode == "late_entry":
        return SkipPlan(mode, n, entry=draw(st.integers(0, n)))
    entry = draw(st.integers(0, n - 1))
    return SkipPlan(mode, n, entry=entry, exit=draw(st.integers(entry + 1, n)))


@given(plans())
def test_json_round_trip(plan):
    back = SkipPlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert back == plan
    assert back.hash() == plan.hash()


@given(plans())
def test_text_only_layers_are_outside_entry_and_exit(plan):
    inside = range(plan.entry or 0, plan.n_layers if plan.exit is None else plan.exit)
    if plan.mode in ("block", "freeze"):
        assert plan.text_only_layers == ()
    else:
        assert set(plan.text_only_layers) == set(range(plan.n_layers)) - set(inside)
    assert plan.is_empty == (not plan.layers and not plan.text_only_layers)
    assert plan.describe()


def test_the_source_is_not_what_a_plan_does():
    plain = SkipPlan("block", 4, layers=(1,))
    told = SkipPlan("block", 4, layers=(1,), source={"rule": "x"})
    assert plain == told
    assert plain.hash() == told.hash()
    assert plain.hash() != SkipPlan("freeze", 4, layers=(1,)).hash()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "jump", "n_layers": 4}, "unknown mode 'jump'; choose from block, freeze"),
        ({"mode": "block", "n_layers": 0}, "needs at least one layer"),
        ({"mode": "block", "n_layers": 4, "layers": (4,)}, "layer 4 is out of range; .* 0 to 3"),
        ({"mode": "block", "n_layers": 4, "layers": (-1,)}, "layer -1 is out of range"),
        ({"mode": "block", "n_layers": 4, "layers": (2, 1)}, "ascending without repeats"),
        ({"mode": "block", "n_layers": 4, "exit": 2}, "block takes no 'exit'"),
        ({"mode": "early_exit", "n_layers": 4}, "early_exit needs 'exit'"),
        ({"mode": "early_exit", "n_layers": 4, "exit": 5}, "exit 5 is out of range 0 to 4"),
        ({"mode": "band", "n_layers": 4, "entry": 3, "exit": 2}, "entry 3 is not before exit 2"),
        ({"mode": "band", "n_layers": 4, "entry": 2, "exit": 2}, "entry 2 is not before exit 2"),
    ],
)
def test_impossible_plans_are_refused(arguments, message):
    with pytest.raises(BridgeError, match=message):
        SkipPlan(**arguments)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "not a SkipPlan"),
        ({"type": "Profile"}, "not a SkipPlan"),
        ({"type": "SkipPlan", "schema_version": 9}, "schema version 9 is not 1"),
        (
            {"type": "SkipPlan", "schema_version": 1, "mode": "block", "n_layers": 1, "x": 1},
            "no field x",
        ),
        ({"type": "SkipPlan", "schema_version": 1, "mode": "block"}, "not a SkipPlan: .*n_layers"),
    ],
)
def test_foreign_json_is_refused(data, message):
    with pytest.raises(BridgeError, match=message):
        SkipPlan.from_json(data)


def test_a_plan_fits_its_own_depth_only(tmp_path):
    plan = SkipPlan("block", 4, layers=(1,))
    plan.fit(4)
    with pytest.raises(BridgeError, match="made for 4 layers, the model has 5"):
        plan.fit(5)
    with pytest.raises(BridgeError, match="no plan file at"):
        SkipPlan.read(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(BridgeError, match=r"bad\.json is not JSON"):
        SkipPlan.read(tmp_path / "bad.json")
