"""Plans that name the stack they are about: the decoder by default, or an encoder."""

from __future__ import annotations

import json
import re
from itertools import permutations

import pytest

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.savings import saving
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.text import read_plan
from vlm_bridge.plan.units import empty_plan, union, units

AUDIO = SkipPlan("block", 4, layers=(1, 2), stack="audio")
HALF = SkipPlan("sublayer", 4, attention=(0,), mlp=(3,), stack="audio")
DECODER = SkipPlan("block", 6, layers=(5,))
EXIT = SkipPlan("early_exit", 6, exit=2)
DEPTHS = {"audio": 4, "decoder": 6}


def refused(message):
    return pytest.raises(BridgeError, match=re.escape(message))


def test_hashes_of_decoder_plans_are_those_of_before_there_were_stacks():
    block = SkipPlan("block", 4, layers=(1,))
    both = SkipPlan.compose(block, SkipPlan("early_exit", 4, exit=2))
    assert block.hash() == "8f9cd70dcf38a8ce2405a377f45c39cc48562aba14f30ad459be9f5f492fd542"
    assert both.hash() == "9d0ac1e025b2d9e7d940c8e3579e1f1d90816854cd2b33624828f59ca67f7d52"
    assert "stack" not in json.dumps(both.to_json())


def test_a_plan_of_an_encoder_is_another_plan():
    same = SkipPlan("block", 4, layers=(1, 2))
    assert same != AUDIO
    assert AUDIO.hash() != same.hash()
    assert AUDIO.hash() != SkipPlan("block", 4, layers=(1, 2), stack="vision").hash()
    assert AUDIO.describe() == "skip layers 1-2 (2 of 4) of the audio encoder"
    assert SkipPlan("block", 4, stack="vision").describe() == (
        "skip nothing (block, 0 of 4) of the vision encoder"
    )


def test_plans_of_several_stacks_make_one_plan():
    for order in permutations((AUDIO, DECODER, EXIT, HALF)):
        plan = SkipPlan.compose(*order)
        assert plan == SkipPlan.compose(AUDIO, HALF, DECODER, EXIT)
    assert (plan.stack, plan.mode) == ("audio+decoder", "block+sublayer+early_exit+block")
    assert (plan.n_layers, plan.layers, plan.exit) == (10, (), None)
    assert plan.by_stack == {
        "audio": SkipPlan.compose(AUDIO, HALF),
        "decoder": SkipPlan.compose(DECODER, EXIT),
    }
    alone = [o for part in plan.by_stack.values() for o in part.operations]
    assert list(plan.operations) == alone
    assert plan.describe().split("; ") == [
        "skip layers 1-2 (2 of 4) of the audio encoder",
        "skip attention of layer 0 and MLP of layer 3 (sublayer, 4 layers) of the audio encoder",
        "vision tokens leave after layer 1 (early_exit, 6 layers)",
        "skip layer 5 (1 of 6)",
    ]


@pytest.mark.parametrize("plan", [AUDIO, HALF, SkipPlan.compose(AUDIO, DECODER, EXIT)])
def test_json(plan, tmp_path):
    data = json.loads(json.dumps(plan.to_json()))
    assert SkipPlan.from_json(data) == plan
    assert SkipPlan.from_json(data).hash() == plan.hash()
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(data))
    assert read_plan(str(path))(6) == plan


@pytest.mark.parametrize(
    "mode", ["freeze", "early_exit", "late_entry", "band", "token_pruning", "progressive_pruning"]
)
def test_modes_about_modality_tokens_are_refused_in_encoders(mode):
    fields = {
        "freeze": {"layers": (1,)},
        "early_exit": {"exit": 1},
        "late_entry": {"entry": 1},
        "band": {"entry": 1, "exit": 2},
        "token_pruning": {"after": 1, "keep": 0.5},
        "progressive_pruning": {"stages": ((1, 0.5),)},
    }[mode]
    with refused(
        f"{mode} skips modality tokens of the decoder; the vision encoder has block and sublayer "
        "(to leave it early is to block its last layers)"
    ):
        SkipPlan(mode, 4, stack="vision", **fields)
    no_rule = mode in ("band", "progressive_pruning")
    with refused("rules have no" if no_rule else f"{mode} skips modality tokens of the dec"):
        units(mode, 4, stack="vision")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SkipPlan("block", 4, stack="x"), "unknown stack 'x'; choose from vision, audio"),
        (lambda: SkipPlan("block", 4, stack=1), "stack must be text, got 1"),
        (lambda: SkipPlan("block", 4, stack="audio+decoder"), "unknown stack 'audio+decoder'"),
        (
            lambda: SkipPlan.compose(AUDIO, SkipPlan("sublayer", 5, stack="audio")),
            "the part sublayer was made for 5 layers, the plan for 4",
        ),
        (
            lambda: SkipPlan.compose(AUDIO, AUDIO),
            "two parts of the audio encoder are of mode 'block'; make them one plan",
        ),
        (
            lambda: SkipPlan.compose(AUDIO, SkipPlan("sublayer", 4, mlp=(1,), stack="audio")),
            "layer 1: block leaves the whole layer out, so sublayer cannot apply there",
        ),
        (
            lambda: SkipPlan("block+block", 10, parts=(AUDIO, DECODER)),
            "stack 'decoder' is not that of its parts; use SkipPlan.compose",
        ),
        (
            lambda: SkipPlan("block+block", 10, stack="audio+decoder", parts=(DECODER, AUDIO)),
            "is not that of its parts; use SkipPlan.compose",
        ),
        (
            lambda: SkipPlan("block+block", 6, stack="audio+decoder", parts=(AUDIO, DECODER)),
            "the parts were made for 10 layers, the plan for 6",
        ),
        (
            lambda: SkipPlan(
                "block+block", 10, layers=(1,), stack="audio+decoder", parts=(AUDIO, DECODER)
            ),
            "layers (1,) is not that of the parts, ()",
        ),
        (lambda: read_plan("block layers=1 stack=x"), "'stack=x' in the plan"),
        (lambda: read_plan("block stack=audio"), "names no place; add 'layers='"),
        (
            lambda: read_plan("block layers=1 stack=audio")(4),
            "a plan of the stack 'audio' needs its number of layers, and only the decoder's is",
        ),
        (
            lambda: AUDIO.check_depth(5),
            "the plan was made for 4 layers, the audio encoder has 5",
        ),
        (
            lambda: saving(AUDIO, modality=0),
            "the share of the audio encoder in the work is not known",
        ),
    ],
)
def test_refusals(make, message):
    with refused(message):
        make()


def test_words():
    made = read_plan("block layers=1,2 stack=audio + early_exit exit=2")(DEPTHS.__getitem__)
    assert made == SkipPlan.compose(AUDIO, EXIT)
    assert read_plan("early_exit exit=2")(6) == EXIT


def test_units_and_unions():
    blocks = units("block", 4, stack="audio")
    assert [unit.layers for unit in blocks] == [(0,), (1,), (2,), (3,)]
    assert union(blocks[1:3]) == AUDIO
    assert union([blocks[1], DECODER, blocks[2]]) == SkipPlan.compose(AUDIO, DECODER)
    assert empty_plan("block", 4, stack="audio").is_empty
    assert empty_plan("block", 4, stack="audio").stack == "audio"


def test_savings_add_up_over_stacks():
    work = {"audio": 0.6, "decoder": 0.4}
    parts = [saving(plan, modality=0.5, work=work) for plan in (AUDIO, EXIT)]
    assert parts[0] == pytest.approx(0.6 * 0.5)
    assert saving(SkipPlan.compose(AUDIO, EXIT), modality=0.5, work=work) == pytest.approx(
        sum(parts)
    )
    assert parts[1] == pytest.approx(0.4 * saving(EXIT, modality=0.5))
