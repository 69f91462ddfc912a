from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.layer_op import Operation
from vlm_bridge.plan.modes import LAYERWISE, MODES, TOKEN_MODES
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.savings import saving
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.text import read_plan


def layer_sets(n: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.sets(st.integers(0, n - 1)).map(lambda found: tuple(sorted(found)))


@st.composite
def plans(draw, modes=tuple(MODES), n_layers: int | None = None) -> SkipPlan:
    n = n_layers or draw(st.integers(1, 40))
    mode = draw(st.sampled_from([m for m in modes if m != "band" or n > 1]))
    if MODES[mode].takes == ("layers",):
        return SkipPlan(mode, n, layers=draw(layer_sets(n)))
    if mode == "sublayer":
        return SkipPlan(mode, n, attention=draw(layer_sets(n)), mlp=draw(layer_sets(n)))
    if mode == "token_pruning":
        keep = draw(st.floats(0, 1, exclude_min=True, exclude_max=True))
        return SkipPlan(mode, n, after=draw(st.integers(1, n)), keep=keep)
    if mode == "progressive_pruning":
        depths = draw(layer_sets(n).filter(bool))
        shares = st.floats(0, 1, exclude_min=True, exclude_max=True)
        many = len(depths)
        falling = sorted(
            draw(st.lists(shares, min_size=many, max_size=many, unique=True)), reverse=True
        )
        stages = tuple(zip(depths, falling, strict=True))
        entry = draw(st.none() | st.integers(0, max(depths[0] - 1, 0)))
        leave = draw(st.none() | st.integers(min(depths[-1] + 1, n), n))
        return SkipPlan(mode, n, stages=stages, select="divprune", entry=entry, exit=leave)
    if mode == "early_exit":
        return SkipPlan(mode, n, exit=draw(st.integers(0, n)))
    if mode == "late_entry":
        return SkipPlan(mode, n, entry=draw(st.integers(0, n)))
    entry = draw(st.integers(0, n - 1))
    return SkipPlan(mode, n, entry=entry, exit=draw(st.integers(entry + 1, n)))


@st.composite
def composed(draw) -> SkipPlan:
    """A composed plan; draws that contradict themselves are left out."""
    n = draw(st.integers(2, 12))
    parts = [draw(plans(TOKEN_MODES, n))] if draw(st.booleans()) else []
    others = draw(st.sets(st.sampled_from(LAYERWISE), min_size=1))
    parts += [draw(plans((mode,), n)) for mode in sorted(others)]
    try:
        return SkipPlan.compose(*draw(st.permutations(parts)))
    except BridgeError:
        assume(False)
        raise


@given(plans() | composed())
def test_json_round_trip(plan):
    back = SkipPlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert back == plan
    assert back.hash() == plan.hash()
    assert back.operations == plan.operations


def _at_stage(plan, layer, inside):
    if layer not in inside:
        return Operation(tokens="text")
    begun = [stage for stage, (depth, _) in enumerate(plan.stages) if depth <= layer]
    return Operation(tokens="kept", stage=begun[-1]) if begun else Operation()


@given(plans())
def test_every_layer_does_what_the_mode_says(plan):
    inside = range(plan.entry or 0, plan.n_layers if plan.exit is None else plan.exit)
    for layer, operation in enumerate(plan.operations):
        out = layer not in plan.layers
        assert operation == {
            "block": Operation(bypass=layer in plan.layers),
            "freeze": Operation(modality_attention=out, modality_mlp=out),
            "vision_attention": Operation(modality_attention=out),
            "vision_mlp": Operation(modality_mlp=out),
            "sublayer": Operation(attention=layer not in plan.attention, mlp=layer not in plan.mlp),
            "token_pruning": Operation(tokens="kept" if layer >= (plan.after or 0) else "all"),
            "progressive_pruning": _at_stage(plan, layer, inside),
        }.get(plan.mode, Operation(tokens="all" if layer in inside else "text"))
    lists = (plan.layers, plan.attention, plan.mlp, plan.text_only_layers, plan.kept_only_layers)
    assert plan.is_empty == (not any(lists))
    assert set(plan.touched_layers) == set().union(*lists)
    assert plan.describe()


@given(composed())
def test_a_composed_plan_touches_what_its_parts_touch(plan):
    parts = plan.parts or (plan,)
    touched = [set(part.touched_layers) for part in parts]
    assert set(plan.touched_layers) == set().union(*touched)
    assert plan.first_layer == min(part.first_layer for part in parts)
    assert plan.describe() == "; ".join(part.describe() for part in parts)
    assert plan.hash() not in {part.hash() for part in plan.parts}
    blocked = {layer for part in parts if part.mode == "block" for layer in part.layers}
    absent = {layer for part in parts for layer in part.text_only_layers}
    assert set(plan.text_only_layers) == absent - blocked


def test_composition_keeps_what_others_read():
    band = SkipPlan("band", 8, entry=1, exit=6, provenance=Provenance(tuned=("b", "a")))
    freeze = SkipPlan("freeze", 8, layers=(2, 3), provenance=Provenance(tuned=("c", "a")))
    sub = SkipPlan("sublayer", 8, attention=(7,), mlp=(3,))
    plan = SkipPlan.compose(sub, freeze, band)
    assert plan == SkipPlan.compose(SkipPlan.compose(freeze, band), sub)
    assert plan.mode == "band+freeze+sublayer"
    assert (plan.entry, plan.exit, plan.layers) == (1, 6, (2, 3))
    assert plan.text_only_layers == (0, 6, 7)
    assert plan.operations[7] == Operation(tokens="text", attention=False)
    assert plan.operations[3] == Operation(modality_attention=False, modality_mlp=False, mlp=False)
    assert plan.provenance == Provenance(tuned=("a", "b", "c"))
    assert SkipPlan.compose(band) is band


def test_the_first_layer_that_matters():
    assert SkipPlan("block", 4, layers=(2,)).first_layer == 2
    assert SkipPlan("token_pruning", 4, after=2, keep=0.5).first_layer == 1
    assert SkipPlan("token_pruning", 4, after=4, keep=0.5).first_layer == 4
    assert SkipPlan("late_entry", 4, entry=2).first_layer == 0
    assert staged((2, 0.5), (3, 0.25)).first_layer == 1
    assert staged((2, 0.5), (3, 0.25), select="dart").first_layer == 2
    assert staged((4, 0.5)).first_layer == 4


def staged(*stages, **fields):
    return SkipPlan("progressive_pruning", 4, stages=stages, **fields)


def test_stages_are_read_from_words_json_and_numbers_of_numpy():
    plan = read_plan("progressive_pruning stages=1:0.5,3:2.5e-1 select=dart")(4)
    assert plan == staged((1, 0.5), (3, 0.25), select="dart")
    assert plan == staged((np.int64(1), np.float32(0.5)), [3, 0.25], select="dart")
    assert plan.to_json()["stages"] == [[1, 0.5], [3, 0.25]]
    assert SkipPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert plan.pruning == ((1, 0.5), (3, 0.25))
    assert (plan.after, plan.keep) == (None, None)
    assert plan.describe("audio") == (
        "keep 50% of audio tokens in layers >= 1, 25% in layers >= 3 by dart "
        "(progressive_pruning, 4 layers)"
    )
    assert staged((4, 0.5)).describe() == "skip nothing (progressive_pruning, 0 of 4)"
    both = SkipPlan.compose(SkipPlan("freeze", 4, layers=(3,)), plan)
    assert both.mode == "progressive_pruning+freeze"
    assert both.stages == plan.stages
    assert both.scored_layers == ()
    assert staged((1, 0.5), (3, 0.25)).scored_layers == (0, 2)
    with pytest.raises(BridgeError, match=r"stages \(\(1, 0.6\),\) is not that of the parts"):
        SkipPlan.from_json(both.to_json() | {"stages": [[1, 0.6]]})


def test_stages_between_an_entry_and_an_exit():
    """HiDrop: tokens enter late, become fewer, and leave."""
    plan = read_plan("progressive_pruning stages=2:0.5 entry=1 exit=3")(4)
    assert plan == staged((2, 0.5), entry=1, exit=3)
    assert [layer.tokens for layer in plan.operations] == ["text", "all", "kept", "text"]
    assert plan.describe() == (
        "keep 50% of vision tokens in layers >= 2, which enter at layer 1 and leave after layer 2 "
        "(progressive_pruning, 4 layers)"
    )
    left = staged((1, 0.5), exit=3)
    assert "in layers >= 1, which leave after layer 2 (" in left.describe()
    assert {plan.hash(), left.hash(), staged((2, 0.5)).hash()} == {
        each.hash() for each in (plan, left, staged((2, 0.5)), staged((2, 0.5), select="fastv"))
    }
    assert SkipPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert saving(plan, modality=0.8) == pytest.approx(0.8 * (1 + 0 + 0.5 + 1) / 4)
    with pytest.raises(BridgeError, match="entry 2 is not before the first depth of 'stages', 2"):
        staged((2, 0.5), entry=2)
    with pytest.raises(BridgeError, match="exit 2 is not behind the last depth of 'stages', 2"):
        staged((2, 0.5), exit=2)
    with pytest.raises(
        BridgeError, match="progressive_pruning takes 'entry' and 'exit' of its own"
    ):
        SkipPlan.compose(staged((2, 0.5)), SkipPlan("late_entry", 4, entry=1))


def test_depths_that_say_nothing_are_not_told_from_none():
    whole = staged((2, 0.5), entry=0, exit=4)
    assert whole == staged((2, 0.5))
    assert whole.hash() == staged((2, 0.5)).hash()
    assert staged((2, 0.5), (4, 0.25)).scored_layers == (1,)
    last = SkipPlan.compose(staged((2, 0.5), (4, 0.25)), SkipPlan("block", 4, layers=(3,)))
    assert last.operations[3] == Operation(bypass=True)
    assert "25%" not in staged((2, 0.5), (4, 0.25)).describe()


def test_hashes_of_plans_without_stages_are_those_of_before():
    pruned = SkipPlan("token_pruning", 4, after=1, keep=0.5)
    assert pruned.hash() == "090dae8009a6b2a8989abb5ce322bb96ed1aedc2f93d4ef8a42765d523273c75"
    frozen = SkipPlan("freeze", 4, layers=(1, 2))
    assert frozen.hash() == "7c72122f89e23cf90d671ffea6003d0c4d82915ed0cc05f3979ffad4fa571eab"
    assert pruned.hash() != staged((1, 0.5)).hash() != staged((1, 0.5), (2, 0.25)).hash()


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((), "progressive_pruning needs 'stages'"),
        (((5, 0.5),), "depth 5 in 'stages' is out of range 0 to 4"),
        (((-1, 0.5),), "depth -1 in 'stages' is out of range 0 to 4"),
        (((1, 0.5), (2, 0)), "share 0.0 in 'stages' is not between 0 and 1, both excluded"),
        (((1, 1.0),), "share 1.0 in 'stages' is not between 0 and 1, both excluded"),
        (((1, float("nan")),), "share nan in 'stages' is not between 0 and 1, both excluded"),
        (
            ((2, 0.5), (2, 0.25)),
            "depths of 'stages' must rise from stage to stage, got 2 after 2",
        ),
        (
            ((1, 0.5), (2, 0.5)),
            "shares of 'stages' must fall from stage to stage, got 0.5 after 0.5; they are shares "
            "of all modality tokens of the sequence",
        ),
        (
            ((0, 0.5), (2, 0.25)),
            "fastv reads the attention of the layer before, and there is none before layer 0; the "
            "first depth of stages is 1 to 4, or select another selector",
        ),
        ("1:0.5", "stages must be a list of pairs (depth, share), got '1:0.5'"),
        (3, "stages must be a list of pairs (depth, share), got 3"),
        ((1, 0.5), "a stage is a pair (depth, share), got 1"),
        (((1, 0.5, 2),), "a stage is a pair (depth, share), got (1, 0.5, 2)"),
        (((1.5, 0.5),), "a depth in 'stages' must be a whole number, got 1.5"),
        (((1, "0.5"),), "a share in 'stages' must be a number, got '0.5'"),
        (((1, 0.5),) * 10_002, "stages has more than 10001 pairs; no decoder is so deep"),
    ],
)
def test_stages_that_say_nothing_sensible_are_refused(stages, message):
    with pytest.raises(BridgeError) as refusal:
        SkipPlan("progressive_pruning", 4, stages=stages)
    assert str(refusal.value) == message


B, F = SkipPlan("block", 4, layers=(1,)), SkipPlan("freeze", 4, layers=(1,))
STAGED = SkipPlan("progressive_pruning", 4, stages=((1, 0.5), (2, 0.25)))
EXIT, PRUNE = SkipPlan("early_exit", 4, exit=1), SkipPlan("token_pruning", 4, after=2, keep=0.5)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), "compose needs at least one plan"),
        ((B, F), "layer 1: block leaves the whole layer out, so freeze cannot apply there"),
        ((B, SkipPlan("sublayer", 4, mlp=(1,))), "layer 1: block .* so sublayer cannot apply"),
        ((EXIT, F), "layer 1: early_exit takes the modality tokens out there, so freeze has none"),
        ((PRUNE, B), "layer 1: token_pruning reads its score .* which block does not compute"),
        ((PRUNE, F), "layer 1: token_pruning reads its score .* which freeze does not compute"),
        (
            (PRUNE, SkipPlan("sublayer", 4, attention=(1,))),
            "layer 1: token_pruning reads its score .* which sublayer does not compute",
        ),
        ((B, SkipPlan("block", 4, layers=(2,))), "two parts are of mode 'block'; make them one"),
        ((EXIT, PRUNE), "early_exit and token_pruning both place modality tokens"),
        ((STAGED, PRUNE), "token_pruning and progressive_pruning both place modality tokens"),
        ((STAGED, B), "layer 1: progressive_pruning reads its score .* which block does not"),
        ((STAGED, F), "layer 1: progressive_pruning reads its score .* which freeze does not"),
        (
            (STAGED, SkipPlan("sublayer", 4, attention=(0,))),
            "layer 0: progressive_pruning reads its score .* which sublayer does not compute",
        ),
        ((B, SkipPlan("freeze", 5)), "the part freeze was made for 5 layers, the plan for 4"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(parts, message):
    with pytest.raises(BridgeError, match=message):
        SkipPlan.compose(*parts)


def test_a_composed_plan_is_made_by_compose():
    with pytest.raises(BridgeError, match="mode 'freeze' is not that of its parts"):
        SkipPlan("freeze", 4, parts=(EXIT, SkipPlan("freeze", 4)))
    whole = SkipPlan.compose(EXIT, SkipPlan("freeze", 4))
    with pytest.raises(
        BridgeError, match=r"a part must be a single plan, got 'early_exit\+freeze'"
    ):
        SkipPlan("x", 4, parts=(whole,))


def test_the_provenance_is_not_what_a_plan_does():
    plain = SkipPlan("block", 4, layers=(1,))
    told = SkipPlan("block", 4, layers=(1,), provenance=Provenance(rule="x"))
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
        ({"mode": "sublayer", "n_layers": 4, "layers": (1,)}, "sublayer takes no 'layers'"),
        ({"mode": "sublayer", "n_layers": 4, "mlp": (4,)}, "layer 4 is out of range"),
        ({"mode": "sublayer", "n_layers": 4, "attention": (1, 1)}, "attention must be ascending"),
        ({"mode": "token_pruning", "n_layers": 4, "after": 2}, "token_pruning needs 'keep'"),
        ({"mode": "token_pruning", "n_layers": 4, "keep": 0.5}, "token_pruning needs 'after'"),
        (
            {"mode": "token_pruning", "n_layers": 4, "keep": 0.5, "after": 0},
            "none before layer 0; after is 1 to 4, or select another selector",
        ),
        (
            {"mode": "token_pruning", "n_layers": 4, "keep": 1.0, "after": 1},
            r"keep 1\.0 is not between 0 and 1",
        ),
        (
            {"mode": "token_pruning", "n_layers": 4, "keep": float("nan"), "after": 1},
            "keep nan is not between 0 and 1",
        ),
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
        ({"type": "SkipPlan", "schema_version": 9}, "schema version 9 is not 3"),
        (
            {"type": "SkipPlan", "schema_version": 3, "mode": "block", "n_layers": 1, "x": 1},
            "no field 'x'; it has mode, n_layers",
        ),
        ({"type": "SkipPlan", "schema_version": 3, "mode": "block"}, "not a SkipPlan: .*n_layers"),
        (
            {"type": "SkipPlan", "schema_version": 3, "mode": "a+b", "n_layers": 1, "parts": [1]},
            "not a SkipPlan",
        ),
    ],
)
def test_foreign_json_is_refused(data, message):
    with pytest.raises(BridgeError, match=message):
        SkipPlan.from_json(data)


def test_a_plan_fits_its_own_depth_only(tmp_path):
    plan = SkipPlan("block", 4, layers=(1,))
    plan.check_depth(4)
    with pytest.raises(BridgeError, match="made for 4 layers, the model has 5"):
        plan.check_depth(5)
    with pytest.raises(BridgeError, match="no plan file at"):
        SkipPlan.read(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(BridgeError, match=r"bad\.json is not JSON"):
        SkipPlan.read(tmp_path / "bad.json")


BLOCK = {"type": "SkipPlan", "schema_version": 3, "mode": "block", "n_layers": 4, "layers": [1]}
PARTED = SkipPlan.compose(EXIT, SkipPlan("freeze", 4, layers=(0,))).to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": ["a"]}, "a layer in 'layers' must be a whole number, got 'a'"),
        ({"layers": ["1"]}, "must be a whole number, got '1'"),
        ({"layers": "12"}, "layers must be a list of layers, got '12'"),
        ({"layers": {"1": 2}}, "layers must be a list of layers"),
        ({"layers": None}, "layers must be a list of layers, got None"),
        ({"layers": 1}, "layers must be a list of layers, got 1"),
        ({"layers": [1.5]}, "must be a whole number, got 1.5"),
        ({"layers": [1.0]}, "must be a whole number, got 1.0"),
        ({"layers": [True]}, "must be a whole number, got True"),
        ({"layers": [[1]]}, r"must be a whole number, got \[1\]"),
        ({"layers": [10**4000]}, "layer 1000000.* is out of range"),
        ({"layers": [0] * 20_000}, "layers has more than 10000 layers"),
        ({"n_layers": "8"}, "n_layers must be a whole number, got '8'"),
        ({"n_layers": None}, "n_layers must be a whole number, got None"),
        ({"n_layers": True}, "n_layers must be a whole number, got True"),
        ({"n_layers": 4.0}, "n_layers must be a whole number, got 4.0"),
        ({"n_layers": 1_000_000}, "no decoder is so deep; n_layers is 1 to 10000, got 1000000"),
        ({"mode": ["block"]}, r"mode must be text, got \['block'\]"),
        ({"mode": None}, "mode must be text, got None"),
        ({"mode": "x" * 10_000}, "unknown mode 'x.* ...; choose from block"),
        ({"provenance": []}, r"provenance must be an object of named values, got \[\]"),
        ({"provenance": None}, "provenance must be an object of named values, got None"),
        ({"provenance": {"x": 1}}, "provenance has no field 'x'; it has model, fingerprint"),
        ({"provenance": {"model": 1}}, "model of a plan must be text, got 1"),
        ({"provenance": {"tuned": "a"}}, "tuned of a plan must be a list of text, got 'a'"),
        ({"provenance": {"certified": [1]}}, r"certified of a plan must be a list of .* \[1\]"),
        ({"provenance": {"profiled": {"a": 1}}}, "profiled of a plan must be a list of text"),
        ({"provenance": {"max_new_tokens": True}}, "max_new_tokens of a plan must be a positive"),
        ({"provenance": {"max_new_tokens": 0}}, "max_new_tokens of a plan must be a positive"),
        ({"provenance": {"settings": []}}, "settings of a plan must be an object of named"),
        ({"parts": {}}, "parts must be a list of at most 16 plans, got {}"),
        ({"parts": [BLOCK] * 17}, "parts must be a list of at most 16 plans"),
        ({"schema_version": 2.0}, "schema version 2.0 is not 3"),
        ({"schema_version": "2"}, "schema version '2' is not 3"),
        ({"x" * 500: 1}, r"SkipPlan has no field 'xxx.* \.\.\.; it has mode, n_layers"),
    ],
)
def test_fields_of_another_type_are_refused_by_name(change, message):
    with pytest.raises(BridgeError, match=message) as refusal:
        SkipPlan.from_json(BLOCK | change)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("mode", "fields", "message"),
    [
        ("early_exit", {"exit": "2"}, "exit must be a whole number, got '2'"),
        ("early_exit", {"exit": 2.5}, "exit must be a whole number, got 2.5"),
        ("early_exit", {"exit": False}, "exit must be a whole number, got False"),
        ("token_pruning", {"after": 1, "keep": "0.5"}, "keep must be a number, got '0.5'"),
        ("token_pruning", {"after": 1, "keep": True}, "keep must be a number, got True"),
        ("token_pruning", {"after": 1, "keep": [0.5]}, r"keep must be a number, got \[0.5\]"),
        ("sublayer", {"mlp": [True]}, "a layer in 'mlp' must be a whole number"),
    ],
)
def test_depths_and_shares_of_another_type_are_refused(mode, fields, message):
    with pytest.raises(BridgeError, match=message):
        SkipPlan(mode, 4, **fields)


def test_whole_numbers_of_numpy_are_stored_as_int():
    plan = SkipPlan("block", np.int64(4), layers=np.array([1, 2]))
    assert json.loads(json.dumps(plan.to_json()))["layers"] == [1, 2]
    plan = SkipPlan("token_pruning", 4, after=np.int32(2), keep=np.float32(0.5))
    assert json.loads(json.dumps(plan.to_json()))["keep"] == 0.5
    for wrong in (np.array([1.0]), np.array([True]), np.array([[1]])):
        with pytest.raises(BridgeError, match="must be a whole number"):
            SkipPlan("block", 4, layers=wrong)


def test_a_composed_plan_says_the_same_as_its_parts():
    assert SkipPlan.from_json(PARTED | {"exit": 1, "layers": [0]}).exit == 1
    with pytest.raises(BridgeError, match="exit 2 is not that of the parts, 1"):
        SkipPlan.from_json(PARTED | {"exit": 2})
    with pytest.raises(BridgeError, match=r"layers \(1,\) is not that of the parts, \(0,\)"):
        SkipPlan.from_json(PARTED | {"layers": [1]})


def test_parts_nested_without_end_are_refused():
    nested = BLOCK
    for _ in range(5000):
        nested = {"type": "SkipPlan", "schema_version": 3, "mode": "a", "n_layers": 4} | {
            "parts": [nested, nested]
        }
    with pytest.raises(BridgeError, match="a part must be a single plan, without parts of its own"):
        SkipPlan.from_json(nested)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("block", "'block' in the plan 'block' names no place; add 'layers='"),
        ("band entry=1 + freeze", "'freeze' in the plan .* names no place; add 'layers='"),
        ("sublayer", "names no place; add 'attention=' or 'mlp='"),
        ("block layers=5-3", "'layers=5-3' in .* has a range that runs backwards; write 3-5"),
        ("block layers=1-", "'layers=1-' in .* is not a list of numbers and ranges, as in 3,5-7"),
        ("block layers=-1", "'layers=-1' in .* is not a list of numbers and ranges"),
        ("block layers=", "'layers=' in .* is not a list of numbers and ranges"),
        ("block layers=1_0", "'layers=1_0' in .* is not a list"),
        ("block layers=\uff13", "is not a list of numbers"),
        ("block layers=1,", "is not a list of numbers"),
        ("block layers=2,1", "is not ascending without repeats"),
        ("block layers=1-3,3", "is not ascending without repeats"),
        ("block layers=1 layers=2", "'layers' is given twice in the plan"),
        ("block layers=0-999999999", "goes beyond layer 9999"),
        ("early_exit exit=1.5", "'exit=1.5' in .* is not a whole number"),
        ("early_exit exit=+2", "is not a whole number"),
        ("token_pruning after=1 keep=nan", "'keep=nan' in .* is not a number"),
        ("token_pruning after=1 keep=0_1", "is not a number"),
        ("progressive_pruning", "names no place; add 'stages='"),
        ("progressive_pruning stages=1:0.5,", "is not a list of depths with their shares, as in 8"),
        ("progressive_pruning stages=1:0.5:2", "'stages=1:0.5:2' in .* is not a list of depths"),
        ("progressive_pruning stages=1-0.5", "is not a list of depths with their shares"),
        ("progressive_pruning stages=1.5:0.5", "is not a list of depths with their shares"),
        ("progressive_pruning stages=1:nan", "is not a list of depths with their shares"),
        ("progressive_pruning stages=", "is not a list of depths with their shares"),
        ("token_pruning stages=1:0.5", "token_pruning needs 'after'"),
        ("block layers=1 stages=1:0.5", "block takes no 'stages'"),
        ("progressive_pruning stages=1:0.5 keep=0.5", "progressive_pruning takes no 'keep'"),
        ("block layers=\0", "is not a list"),
        ("x" * 5000, "'xxx.* ... is neither a plan file nor a plan in words"),
        ("block\0 layers=1", "is neither a plan file nor a plan in words"),
    ],
)
def test_words_that_say_no_plan_are_refused(words, message):
    with pytest.raises(BridgeError, match=message):
        read_plan(words)(4)


def test_words_and_fields_make_the_same_plan():
    assert read_plan("block layers=0,2-3")(4) == SkipPlan("block", 4, layers=(0, 2, 3))
    assert read_plan("token_pruning after=2 keep=2.5e-1")(4).keep == 0.25
    both = read_plan("early_exit exit=2 + sublayer attention=0 mlp=0-1")(4)
    parts = (SkipPlan("early_exit", 4, exit=2), SkipPlan("sublayer", 4, attention=(0,), mlp=(0, 1)))
    assert both == SkipPlan.compose(*parts)
