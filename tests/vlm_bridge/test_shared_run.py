"""Answers under many plans equal those under each alone; what plans share runs once."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.vlm_bridge.families import FAMILIES, FULL, batch, tiny
from tests.vlm_bridge.skip_cases import BAND, EXIT, FREEZE, LATE, PRUNE
from tests.vlm_bridge.tiny import asked_pictures, tiny_llava
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.shared_run import SharedRun
from vlm_bridge.model.prompts import Batch
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import units

BLOCKS = units("block", 4)
VISION = SkipPlan("block", 2, layers=(1,), stack="vision")
NOTHING = SkipPlan("block", 4)
PLANS = [*BLOCKS, FREEZE, EXIT, LATE, BAND, PRUNE, VISION, NOTHING]
SETTINGS = {"batch_size": 5}


@pytest.fixture(scope="module")
def vlm():
    return tiny_llava()


@pytest.fixture(scope="module")
def full(vlm, tmp_path_factory):
    """Answers about 12 images in three batches, whose prompts have three lengths."""
    pictures = asked_pictures(tmp_path_factory.mktemp("pictures"), 12)
    return FullAnswers.ask(vlm, pictures, max_new_tokens=6, **SETTINGS)


def test_the_outcomes_are_those_of_each_plan_alone(vlm, full):
    together = full.of_plans(vlm, PLANS, **SETTINGS)
    alone = [full.outcomes(vlm, plan, **SETTINGS) for plan in PLANS]
    assert together == alone
    assert len({outcomes.disagree for outcomes in together}) > 4
    assert not any(together[-1].disagree)


def test_the_order_of_the_plans_does_not_matter(vlm, full):
    there, back = (full.of_plans(vlm, plans, **SETTINGS) for plans in (PLANS, PLANS[::-1]))
    assert there == back[::-1]


@pytest.mark.parametrize("name", [*FULL, "PaliGemma", "Qwen3-VL"])
def test_every_family_gives_the_tokens_of_a_run_from_scratch(name):
    """A padded batch; one block, frozen layer or exit at each depth, behind the full model."""
    vlm = tiny(FAMILIES[name])
    inputs = batch(FAMILIES[name], ("ttIttttt", "Itttttttt", "tIt"))
    asked = Batch(tuple(Item(None, str(i)) for i in range(3)), (0, 1, 2), inputs)
    modes = ("block", "freeze", "early_exit", "late_entry")
    plans = [unit for mode in modes for unit in units(mode, vlm.layout.n_layers)]
    run = SharedRun(vlm, asked, (None, *plans), max_new_tokens=3)
    run.ask(None)
    for plan in plans:
        alone = SharedRun(vlm, asked, (plan,), max_new_tokens=3).ask(plan)
        assert run.ask(plan).ids.tolist() == alone.ids.tolist(), plan.describe()


def test_a_layer_runs_once_for_all_plans_that_leave_it_and_those_before_alone(vlm, full):
    """Prefills of layer i: one of the full model, and one of each plan that starts at or before i.

    A plan that leaves layer j out starts at j, whose own MLP it does not run.
    """
    prompts = Counter()

    def count(name, output):
        if isinstance(name, str) or output.shape[1] > 1:
            prompts[name] += 1

    watched = {"vision": vlm.layout.base.vision_tower}
    watched |= {i: layer.mlp for i, layer in enumerate(vlm.layout.layers)}
    handles = [
        module.register_forward_hook(lambda _, __, out, name=name: count(name, out))
        for name, module in watched.items()
    ]
    try:
        full.of_plans(vlm, BLOCKS, **SETTINGS)
    finally:
        for handle in handles:
            handle.remove()
    batches = 3
    assert prompts == {"vision": batches} | {i: batches * (1 + i) for i in range(4)}


def test_finished_batches_are_not_run_again(vlm, full, tmp_path, monkeypatch):
    file = tmp_path / "plans.jsonl"
    made = full.of_plans(vlm, PLANS, checkpoint=file, **SETTINGS)
    kept = file.read_text().splitlines(keepends=True)
    file.write_text("".join(kept[:-1]))
    asked = []
    ask = SharedRun.ask
    monkeypatch.setattr(SharedRun, "ask", lambda run, plan: (asked.append(plan), ask(run, plan))[1])
    assert full.of_plans(vlm, PLANS, checkpoint=file, **SETTINGS) == made
    assert asked == [None, *PLANS[:-1]]  # one batch
    with pytest.raises(BridgeError, match="another run"):
        full.of_plans(vlm, PLANS[1:], checkpoint=file, **SETTINGS)


def test_a_plan_that_the_model_cannot_do_is_refused_before_any_runs(vlm, full, monkeypatch):
    monkeypatch.setattr(SharedRun, "ask", lambda *_: pytest.fail("ran"))
    with pytest.raises(BridgeError, match="7 layers"):
        full.of_plans(vlm, [FREEZE, SkipPlan("block", 7, layers=(1,))], **SETTINGS)
