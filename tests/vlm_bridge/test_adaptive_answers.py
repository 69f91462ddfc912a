"""Answers under adaptive plans equal those of the model that gives them; nothing is done twice."""

from __future__ import annotations

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

import vlm_bridge as vb
from tests.vlm_bridge.families import FAMILIES, FULL, batch, tiny
from tests.vlm_bridge.families.stacks import StackCase, model
from tests.vlm_bridge.skip_cases import BAND, EXIT, FREEZE, LATE, PRUNE
from tests.vlm_bridge.tiny import tiny_llava
from tests.vlm_bridge.words import Words
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.adaptive import AdaptiveRun, adaptive_answers, adaptive_batch
from vlm_bridge.evaluate.adaptive_cost import expected_cost, gate_costs
from vlm_bridge.evaluate.answers import answer, answer_batch
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.model.prompts import Batch, batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan, Gate
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.selection.sureness import sureness_of
from vlm_bridge.skip import skipping
from vlm_bridge.skip.prefix import Prefix, inputs_of_rows, recording, resuming

BLOCK = SkipPlan("block", 4, layers=(1, 3))
VISION = SkipPlan("block", 2, layers=(1,), stack="vision")
PLANS = [BLOCK, FREEZE, EXIT, LATE, BAND, PRUNE, VISION]
LENGTH = {"max_new_tokens": 6}


@pytest.fixture(scope="module")
def vlm():
    return tiny_llava()


@pytest.fixture(scope="module")
def full(vlm, pictures):
    return answer(vlm, pictures, **LENGTH)


def fixed(vlm, items, plan):
    with skipping(vlm, plan):
        return answer(vlm, items, **LENGTH)


def middle(vlm, items, plan, signal="margin", over="answer"):
    """A gate at which half of the answers stand."""
    gate = Gate(plan, signal, over=over)
    known = FullAnswers("tiny", tuple(items), ("",) * len(items), **LENGTH)
    signals = sureness_of(known, vlm, gate, batch_size=16).signals
    return replace(gate, threshold=float(np.median(signals)))


def by_plan(vlm, items, plans, full):
    """Answers by number of gate, the full model's last."""
    return [*(fixed(vlm, items, plan) for plan in plans), full]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.describe())
def test_at_inf_the_full_model_answers_and_at_minus_inf_the_plan(vlm, pictures, full, plan):
    never = adaptive_answers(
        vlm, pictures, AdaptivePlan((Gate(plan, threshold=math.inf),)), **LENGTH
    )
    always = AdaptivePlan((Gate(plan, threshold=-math.inf),))
    assert (list(never.texts), set(never.gates)) == (full, {1})
    stood = adaptive_answers(vlm, pictures, always, **LENGTH)
    assert (list(stood.texts), set(stood.gates)) == (fixed(vlm, pictures, plan), {0})
    assert list(stood.texts) != full


@pytest.mark.parametrize(("signal", "over"), [("margin", "answer"), ("entropy", "first")])
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.describe())
def test_every_answer_is_that_of_who_gave_it(vlm, pictures, full, plan, signal, over):
    made = adaptive_answers(
        vlm, pictures, AdaptivePlan((middle(vlm, pictures, plan, signal, over),)), **LENGTH
    )
    assert Counter(made.gates) == {0: 6, 1: 6}
    of = by_plan(vlm, pictures, [plan], full)
    assert list(made.texts) == [of[gate][i] for i, gate in enumerate(made.gates)]


@pytest.mark.parametrize(
    "plans", [(EXIT, FREEZE), (BLOCK, EXIT), (LATE, BLOCK), (PRUNE, BAND), (FREEZE, PRUNE)]
)
def test_a_chain_shares_what_its_plans_share(vlm, pictures, full, plans):
    gates = tuple(middle(vlm, pictures, plan) for plan in plans)
    made = adaptive_answers(vlm, pictures, AdaptivePlan(gates), **LENGTH)
    assert set(made.gates) >= {0, 2}
    of = by_plan(vlm, pictures, plans, full)
    assert list(made.texts) == [of[gate][i] for i, gate in enumerate(made.gates)]


@pytest.mark.parametrize(("over", "words"), [("first", 1), ("answer", 99)])
def test_agreement_of_two_plans(vlm, pictures, full, over, words):
    second = SkipPlan("freeze", 4, layers=(0,))
    gate = Gate(FREEZE, "agreement", 0.5, over, second)
    made = adaptive_answers(vlm, pictures, AdaptivePlan((gate,)), **LENGTH)
    of = by_plan(vlm, pictures, [FREEZE], full)
    texts = [
        [text.split()[:words] for text in fixed(vlm, pictures, plan)] for plan in (FREEZE, second)
    ]
    agree = [a == b for a, b in zip(*texts, strict=True)]
    assert 0 < sum(agree) < 12
    assert list(made.gates) == [0 if same else 1 for same in agree]
    assert list(made.texts) == [of[gate][i] for i, gate in enumerate(made.gates)]


def test_order_and_size_of_the_batch_do_not_matter(vlm, pictures):
    plan = AdaptivePlan((middle(vlm, pictures, EXIT),))
    made = adaptive_answers(vlm, pictures, plan, **LENGTH)
    order = np.random.default_rng(0).permutation(12)
    shuffled = adaptive_answers(vlm, [pictures[i] for i in order], plan, **LENGTH)
    assert shuffled.texts == tuple(made.texts[i] for i in order)
    assert shuffled.gates == tuple(made.gates[i] for i in order)
    for size in (1, 5):
        alone = adaptive_answers(vlm, pictures, plan, batch_size=size, **LENGTH)
        assert (alone.texts, alone.gates) == (made.texts, made.gates)


def test_a_checkpoint_continues_and_belongs_to_its_plan(vlm, pictures, tmp_path):
    plan, file = AdaptivePlan((middle(vlm, pictures, EXIT),)), tmp_path / "a.jsonl"
    made = adaptive_answers(vlm, pictures, plan, batch_size=4, checkpoint=file, **LENGTH)
    again = adaptive_answers(vlm, pictures, plan, batch_size=4, checkpoint=file, **LENGTH)
    assert again == made
    other = AdaptivePlan((replace(plan.gates[0], threshold=0.1),))
    with pytest.raises(BridgeError, match="another run"):
        adaptive_answers(vlm, pictures, other, batch_size=4, checkpoint=file, **LENGTH)


@pytest.mark.parametrize("case", [StackCase("Whisper", "audio"), StackCase("mBART", "encoder")])
def test_encoder_decoders_start_from_the_beginning(case):
    vlm = replace(VLM.of(case.name, model(case.name), None), processor=Words())
    asked = Batch(tuple(Item(None, str(i)) for i in range(3)), (0, 1, 2), case.inputs(3))
    plan = SkipPlan("block", vlm.layout.n_layers, layers=(0, 1))
    whole = answer_batch(vlm, asked, max_new_tokens=5).texts
    with skipping(vlm, plan):
        skipped = answer_batch(vlm, asked, max_new_tokens=5).texts
    assert whole != skipped
    for threshold, texts in ((math.inf, whole), (-math.inf, skipped)):
        gates = AdaptivePlan((Gate(plan, threshold=threshold),))
        assert adaptive_batch(vlm, asked, gates, max_new_tokens=5).texts == texts


# --- nothing twice ------------------------------------------------------------------------------


def test_the_encoder_and_shared_layers_run_once(vlm, pictures):
    """Rows that fall back start behind the shared layers; counted in passes of whole prompts."""
    plan = AdaptivePlan((middle(vlm, pictures, EXIT),))
    prompts = Counter()
    watched = {"vision": vlm.layout.base.vision_tower, 0: vlm.layout.layers[0].mlp}
    watched |= {2: vlm.layout.layers[2].mlp}
    handles = [
        module.register_forward_hook(
            lambda _, __, out, name=name: prompts.update(
                [name] if isinstance(name, str) or out.shape[1] > 1 else []
            )
        )
        for name, module in watched.items()
    ]
    try:
        adaptive_answers(vlm, pictures, plan, **LENGTH)
    finally:
        for handle in handles:
            handle.remove()
    assert prompts == {"vision": 1, 0: 1, 2: 2}


@pytest.mark.parametrize("name", [*FULL, pytest.param("Qwen3-VL"), "PaliGemma"])
def test_a_resumed_run_gives_the_logits_of_a_whole_one(name):
    """In a padded batch from which a row has left, in every family, under a plan and without."""
    vlm = tiny(FAMILIES[name])
    n = vlm.layout.n_layers
    inputs = batch(FAMILIES[name], ("ttIttttt", "Itttttttt", "tIt"))
    asked = Batch(tuple(Item(None, str(i)) for i in range(3)), (0, 1, 2), inputs)
    exit, frozen = SkipPlan("early_exit", n, exit=n - 1), SkipPlan("freeze", n, layers=(n - 1,))
    plan = AdaptivePlan((Gate(exit), Gate(frozen)))
    run = AdaptiveRun(vlm, asked, plan, max_new_tokens=4)
    run.ask(exit)
    run.narrow([2, 0])
    for each in (frozen, None):
        whole = AdaptiveRun(vlm, asked, plan, max_new_tokens=4).ask(each)
        made = run.ask(each)
        for step, (a, b) in enumerate(zip(made.logits, whole.logits, strict=False)):
            torch.testing.assert_close(a, b[[2, 0]], atol=1e-4, rtol=1e-4, msg=f"step {step}")
        steps = min(made.ids.shape[1], whole.ids.shape[1])
        assert torch.equal(made.ids[:, :steps], whole.ids[[2, 0], :steps])


def test_features_that_come_later_forbid_an_early_start():
    """Qwen3-VL adds vision features after its first layers, which come with the pixels."""
    vlm = tiny(FAMILIES["Qwen3-VL"])
    inputs = batch(FAMILIES["Qwen3-VL"], ("ttIttttt", "tIt"))
    last = max(vlm.layout.deepstack_layers)
    assert inputs_of_rows(inputs, [1], vlm, last) is None
    assert "pixel_values" not in inputs_of_rows(inputs, [1], vlm, last + 1)


def test_a_window_that_has_lost_keys_ends_the_prefix():
    vlm = tiny(FAMILIES["Gemma3"])
    inputs = batch(FAMILIES["Gemma3"], ("ttItttttttttt",))
    prefix = Prefix(inputs["input_ids"].shape[1])
    with torch.no_grad(), recording(vlm, prefix, [0, 2]):
        prefix.learn_keys(vlm.model(**inputs, use_cache=True).past_key_values, 2)
    assert sorted(prefix.states) == [0, 2]
    assert prefix.depth(vlm.layout.n_layers) == 0


def test_other_threads_run_the_full_model_meanwhile(vlm, pictures, full):
    """While a run resumes, a pass of another thread is of its own prompts."""
    batch = next(batches(vlm, pictures[:4]))
    prefix = Prefix(batch.inputs["input_ids"].shape[1])
    with vlm.whole(), recording(vlm, prefix, [0, 2]):
        cache = vlm.model(**batch.inputs).past_key_values
    prefix.learn_keys(cache, 2)
    with ThreadPoolExecutor(1) as pool, vlm.whole(), resuming(vlm, prefix, 2):
        inside = vlm.model(**batch.inputs).logits
        other = next(batches(vlm, pictures[4:8])).inputs
        found = pool.submit(lambda: vlm.model(**other).logits.detach()).result()
    torch.testing.assert_close(inside, vlm.model(**batch.inputs).logits)
    torch.testing.assert_close(found, vlm.model(**other).logits)


@pytest.mark.slow
def test_costs_add_up(vlm, pictures):
    """What a gate saves is what the full model adds, but for the shared layers and the head."""
    whole = SkipPlan("block", 4, layers=(2, 3))
    costs = gate_costs(vlm, pictures, AdaptivePlan((Gate(whole, threshold=1.0),)))
    assert 1.0 < sum(costs) < 1.05  # the head runs twice
    assert max(costs) < 1
    fresh = tiny_llava()  # whose layers nobody has tried
    frozen = AdaptivePlan((Gate(FREEZE),))
    assert gate_costs(fresh, pictures, frozen) == gate_costs(fresh, pictures, frozen)
    twice = gate_costs(vlm, pictures, AdaptivePlan((Gate(VISION),)))
    assert sum(twice) > 1.5  # an encoder differs, so that nothing is shared
    assert twice[1] == pytest.approx(1.0)


def test_expected_cost_is_between_its_ends_and_counts_images():
    found = expected_cost([0.5, 0.3, 0.2], [0, 1, 2, 2], ["a", "a", "b", "b"])
    assert found.value == pytest.approx((0.65 + 1.0) / 2)
    assert 0.5 <= found.interval[0] <= found.value <= found.interval[1] <= 1.0
    assert found.n == 2


# --- refusals -----------------------------------------------------------------------------------


def test_verbs_of_fixed_plans_name_the_verb_for_adaptive_ones(vlm, pictures):
    plan = AdaptivePlan((Gate(EXIT),))
    for use in (
        lambda: skipping(vlm, plan).__enter__(),
        lambda: vb.certify(vlm, pictures, plan),
        lambda: vb.measure_cost(vlm, pictures, plan),
    ):
        with pytest.raises(BridgeError, match=r"run it with vb.adaptive_answers"):
            use()
    with pytest.raises(BridgeError, match="an AdaptivePlan is wanted, got a SkipPlan"):
        adaptive_answers(vlm, pictures, EXIT)


def test_what_cannot_be_run_is_refused(vlm, pictures):
    other = replace(EXIT, provenance=Provenance(model="other", fingerprint="f" * 64))
    with pytest.raises(BridgeError, match="the plan was made for other"):
        adaptive_answers(vlm, pictures, AdaptivePlan((Gate(other),)))
    named = AdaptivePlan((Gate(EXIT),), provenance=other.provenance)
    with pytest.raises(BridgeError, match="the plan was made for other"):
        adaptive_answers(vlm, pictures, named)
    deep = AdaptivePlan((Gate(SkipPlan("block", 9, layers=(8,))),))
    with pytest.raises(BridgeError, match="the plan was made for 9 layers"):
        adaptive_answers(vlm, pictures, deep)
    with pytest.raises(BridgeError, match="there are no items"):
        adaptive_answers(vlm, [], AdaptivePlan((Gate(EXIT),)))
    with skipping(vlm, EXIT), pytest.raises(BridgeError, match="skipping at present"):
        adaptive_answers(vlm, pictures, AdaptivePlan((Gate(EXIT),)))
