"""The shared-prefix sweep against every plan carried out on its own, the plain way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.vlm_bridge.families import FAMILIES, SITUATIONS, tiny
from tests.vlm_bridge.families import batch as family_batch
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate import sweep as sweeping
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.first_token import starts_right
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.sweep import sweep as sweep_function
from vlm_bridge.evaluate.sweep import sweep_plans
from vlm_bridge.model.prompts import Batch, batches
from vlm_bridge.plan.modes import RULE_MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping


def first_tokens(vlm, batch):
    with torch.no_grad():
        log_probs = vlm.model(**batch.inputs, use_cache=False).logits[:, -1].log_softmax(-1)
    return [vlm.processor.tokenizer.decode([i]) for i in log_probs.argmax(-1).tolist()], log_probs


@pytest.fixture
def plans():
    late = SkipPlan("late_entry", 4, entry=3)  # what comes with it touches its prefix
    pruned = SkipPlan("token_pruning", 4, after=2, keep=0.5)
    return [
        *sweep_plans(4, modes=RULE_MODES, keep=(0.5,)),
        SkipPlan("band", 4, entry=1, exit=3),
        SkipPlan("block", 4),
        SkipPlan.compose(late, SkipPlan("sublayer", 4, mlp=(1,))),
        SkipPlan.compose(pruned, SkipPlan("freeze", 4, layers=(3,))),
    ]


@pytest.mark.slow
def test_sweep_equals_every_plan_on_its_own(items, plans):
    vlm = tiny_llava()
    found = sweep_function(vlm, items, plans, batch_size=4)
    for plan, comparison in zip(plans, found, strict=True):
        parts = []
        for batch in batches(vlm, items, batch_size=4):
            full = first_tokens(vlm, batch)
            with skipping(vlm, plan, fast=False):
                skipped = first_tokens(vlm, batch)
            parts.append(Outcomes.of(batch.items, full, skipped, judge=starts_right(vlm)))
        alone = Comparison.of(plan, Outcomes.join(parts), "first answer token")
        assert comparison.plan == plan
        assert comparison.disagreement == alone.disagreement
        assert comparison.drop == alone.drop
        for name in ("kl_full_skipped", "kl_skipped_full"):
            got, want = getattr(comparison, name).value, getattr(alone, name).value
            assert got == pytest.approx(want, abs=1e-4)


class Numbers:
    """A tokenizer whose words are the ids themselves."""

    @staticmethod
    def decode(ids):
        return str(int(ids[0]))


@pytest.mark.parametrize("name", ["Qwen2.5-VL", "Qwen3-VL", "Gemma3", "SmolVLM", "PaliGemma"])
def test_prefixes_are_shared_rightly_in_every_family(name):
    """Sliding layers, features inserted between layers, M-RoPE: recalled states are the same."""
    family = FAMILIES[name]
    vlm = replace(tiny(family), processor=SimpleNamespace(tokenizer=Numbers))
    inputs = family_batch(family, SITUATIONS["padded"])
    asked = tuple(Item(Path(f"{row}.png"), "?") for row in range(3))
    plans = [
        *sweep_plans(4, modes=RULE_MODES, keep=(0.5,)),
        SkipPlan("band", 4, entry=1, exit=3),
    ]
    found = sweeping._run_batch(vlm, Batch(asked, (0, 1, 2), inputs), plans)
    with torch.no_grad():
        full = vlm.model(**inputs, use_cache=False).logits[:, -1].log_softmax(-1)
    for plan, outcomes in zip(plans, found, strict=True):
        with torch.no_grad(), skipping(vlm, plan, fast=False):
            skipped = vlm.model(**inputs, use_cache=False).logits[:, -1].log_softmax(-1)
        want = (full.exp() * (full - skipped)).sum(-1)
        np.testing.assert_allclose(outcomes.kl_full_skipped, want, atol=1e-4, rtol=1e-3)


def test_an_empty_plan_changes_nothing_and_the_last_entry_changes_most(items, plans):
    found = dict(
        zip([p.hash() for p in plans], sweep_function(tiny_llava(), items, plans), strict=True)
    )
    for plan in (
        SkipPlan("block", 4),
        SkipPlan("early_exit", 4, exit=4),
        SkipPlan("late_entry", 4, entry=0),
    ):
        assert found[plan.hash()].disagreement.value == 0
        assert found[plan.hash()].kl_full_skipped.value == pytest.approx(0, abs=1e-6)
    never = [SkipPlan("early_exit", 4, exit=0), SkipPlan("late_entry", 4, entry=4)]
    kl = [found[plan.hash()].kl_full_skipped.value for plan in never]
    assert kl[0] == pytest.approx(kl[1], abs=1e-5)
    assert kl[0] > 0


def test_a_killed_sweep_continues_where_it_was(items, plans, tmp_path, monkeypatch):
    vlm, checkpoint, plans = tiny_llava(), tmp_path / "checkpoint.jsonl", plans[::6]
    whole = sweep_function(vlm, items, plans, batch_size=2)
    sweep_function(vlm, items, plans, batch_size=2, checkpoint=checkpoint)
    lines = checkpoint.read_text().splitlines()
    checkpoint.write_text("\n".join(lines[:3]) + "\n" + lines[3][:20])  # killed while writing
    seen = []

    def counted(vlm, batch, plans, run=sweeping._run_batch):
        seen.append(batch.places)
        return run(vlm, batch, plans)

    monkeypatch.setattr(sweeping, "_run_batch", counted)
    again = sweep_function(vlm, items, plans, batch_size=2, checkpoint=checkpoint)
    assert again == whole
    assert len(seen) == len(lines) - 3
    assert len(checkpoint.read_text().splitlines()) == len(lines)
    seen.clear()
    assert sweep_function(vlm, items, plans, batch_size=2, checkpoint=checkpoint) == whole
    assert not seen  # every line of the mended checkpoint can be read


def test_a_checkpoint_of_another_sweep_is_refused(items, plans, tmp_path):
    vlm, checkpoint = tiny_llava(), tmp_path / "checkpoint.jsonl"
    sweep_function(vlm, items, plans[:2], checkpoint=checkpoint)
    before = checkpoint.read_text()
    with pytest.raises(BridgeError, match="belongs to another run"):
        sweep_function(vlm, items, plans[:3], checkpoint=checkpoint)
    assert checkpoint.read_text() == before


def test_sweep_plans_cover_both_ends():
    plans = sweep_plans(30, step=4)
    by_mode = {m: [p for p in plans if p.mode == m] for m in ("block", "early_exit", "late_entry")}
    assert by_mode["block"][0].layers == (0,)
    assert by_mode["block"][-1].layers == (29,)
    assert {by_mode["early_exit"][i].exit for i in (0, -1)} == {0, 30}
    assert {by_mode["late_entry"][i].entry for i in (0, -1)} == {0, 30}
    assert len(sweep_plans(30)) == 30 + 30 + 31 + 31
    with pytest.raises(BridgeError, match="no mode band; it has block, freeze"):
        sweep_plans(4, modes=["band"])
    with pytest.raises(BridgeError, match="at least 1, got 0"):
        sweep_plans(4, step=0)


def test_sublayers_and_pruning_are_swept_whole():
    plans = sweep_plans(5, modes=["sublayer"])
    assert [(plan.attention, plan.mlp) for plan in plans] == [
        *(((layer,), ()) for layer in range(5)),
        *(((), (layer,)) for layer in range(5)),
    ]
    plans = sweep_plans(5, modes=["token_pruning"], step=2, keep=(0.5, 0.2))
    grid = [(plan.after, plan.keep) for plan in plans]
    assert grid == [(a, k) for k in (0.5, 0.2) for a in (1, 2, 4)]
    with pytest.raises(BridgeError, match=r"keep 1\.0 is not between"):
        sweep_plans(5, modes=["token_pruning"], keep=(1.0,))


def test_layers_before_the_first_touched_one_compute_nothing(items):
    """A plan's prefix is recalled; token pruning runs the layer whose attention it reads."""
    vlm, ran = tiny_llava(), []
    handles = [
        vlm.layout.layers[index].self_attn.register_forward_hook(lambda *_, i=index: ran.append(i))
        for index in (0, 2)
    ]
    sweep_function(vlm, items[:2], [SkipPlan("token_pruning", 4, after=3, keep=0.5)])
    for handle in handles:
        handle.remove()
    assert ran == [0, 2, 2]  # the full model, then the plan


def test_a_plan_the_model_cannot_do_is_refused_before_any_pass(items, monkeypatch):
    vlm = tiny_llava()
    monkeypatch.setattr(sweeping, "_run_batch", lambda *_: pytest.fail("computed"))
    with pytest.raises(BridgeError, match="made for 5 layers, the model has 4"):
        sweep_function(vlm, items, [SkipPlan("block", 4), SkipPlan("block", 5)])


def test_comparison_round_trip_and_unlabelled(items):
    unlabelled = [replace(item, answer=None) for item in items]
    (found,) = sweep_function(tiny_llava(), unlabelled, [SkipPlan("block", 4, layers=(1,))])
    assert found.accuracy_full is None
    assert found.drop is None
    back = Comparison.from_json(json.loads(json.dumps(found.to_json())))
    assert back == found
    with pytest.raises(ValueError, match="not of type Comparison"):
        Comparison.from_json({"type": "SkipPlan", "schema_version": 1})
    assert np.isfinite(found.kl_full_skipped.value)


def test_only_the_first_token_of_the_answer_is_right():
    judge = starts_right(tiny_llava())
    item = Item("x.png", "?", "circle")  # type: ignore[arg-type]
    assert judge("circle", item) is True
    assert judge("c", item) is False
    assert judge("", item) is False
    assert judge("circle", replace(item, answer=None)) is None
    several = replace(item, answers=("circle", "square"))
    assert [judge(word, several) for word in ("circle", "square", "red")] == [True, True, False]
