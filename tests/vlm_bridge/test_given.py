"""Public verbs say what they want where they are given what the command line accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

import vlm_bridge as vb
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.cost import cost_of_inputs
from vlm_bridge.plan.skip_plan import SkipPlan

PLAN = SkipPlan("freeze", 4, layers=(2,))
ROW = {"image": "0.png", "question": "red ?"}


def _skip(vlm, plan):
    with vb.skipping(vlm, plan):
        pass


#: Each verb as a function of (vlm, items, plan), and which of the three it checks.
VERBS = {
    "answer": (lambda vlm, items, plan: vb.answer(vlm, items), "vi"),
    "certify": (vb.certify, "vip"),
    "certify_both": (vb.certify_both, "vip"),
    "choose_plan": (lambda vlm, items, plan: vb.choose_plan(vlm, None, items), "vi"),
    "compare": (vb.compare, "vip"),
    "cost_of_inputs": (lambda vlm, items, plan: cost_of_inputs(vlm, {}, plan), "vp"),
    "describe": (lambda vlm, items, plan: vb.describe(vlm), "v"),
    "measure_cost": (vb.measure_cost, "vip"),
    "profile": (lambda vlm, items, plan: vb.profile(vlm, items), "vi"),
    "prune": (lambda vlm, items, plan: vb.prune(vlm, plan, "never-written"), "vp"),
    "reach": (lambda vlm, items, plan: vb.reach(items), "i"),
    "search": (lambda vlm, items, plan: vb.search(vlm, items[:1], items, [plan]), "vp"),
    "skipping": (lambda vlm, items, plan: _skip(vlm, plan), "vp"),
    "sweep": (lambda vlm, items, plan: vb.sweep(vlm, items, [plan]), "vip"),
}
WRONG = {
    "v": {"reference": "got 'reference'; ", None: "got None; ", 3: "got 3; "},
    "i": {
        "data.jsonl": "got 'data.jsonl'; read them with vlm_bridge.data.read_jsonl(PATH)",
        Path("data.jsonl"): "list of items is wanted, got PosixPath('data.jsonl'); read",
        (str(ROW),): "items[0] is no Item but",
        PLAN: "a list of items is wanted, got a SkipPlan; read",
    },
    "p": {
        "skip layer 2": "'skip layer 2' is neither a plan file nor a plan in words; a part is a",
        None: "a plan is wanted, got None; give a SkipPlan, the path of its file, or words such as",
        (ROW["image"],): "a plan is wanted, got a tuple; give a SkipPlan",
    },
}
SAYS = {"v": "vb.load", "i": "read_jsonl(PATH)", "p": "layers="}


@pytest.fixture(scope="module")
def vlm():
    return tiny_llava()


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_says_what_it_wants(verb, vlm, items):
    call, checked = VERBS[verb]
    for which in checked:
        for wrong, message in WRONG[which].items():
            given = {"v": vlm, "i": items, "p": PLAN, which: wrong}
            with pytest.raises(vb.BridgeError) as refusal:
                call(*given.values())
            assert message in str(refusal.value)
            assert SAYS[which] in str(refusal.value)


def test_dicts_and_swapped_arguments_are_named(vlm, items):
    with pytest.raises(vb.BridgeError, match=r"items\[1\] is no Item but \{'image': '0\.png'"):
        vb.certify(vlm, [items[0], ROW], PLAN)
    with pytest.raises(vb.BridgeError, match="a plan is wanted, got a list"):
        vb.certify(vlm, PLAN, items)
    with pytest.raises(vb.BridgeError, match=r"items is wanted, got \{'image'"):
        vb.answer(vlm, ROW)
