"""Chains of gates: fronts of tables by hand and over all thresholds; a replay is what runs."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vlm_bridge.skip_cases import BAND, EXIT, FREEZE, LATE, PRUNE
from tests.vlm_bridge.tiny import asked_pictures, tiny_llava
from vlm_bridge.cost import count_flops
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate import adaptive_cost
from vlm_bridge.evaluate.adaptive import AdaptiveRun, adaptive_answers
from vlm_bridge.evaluate.adaptive_cost import gate_costs
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.prefill_flops import PrefillFlops
from vlm_bridge.evaluate.shared_run import SharedRun
from vlm_bridge.model.prompts import collate
from vlm_bridge.plan.adaptive import AdaptivePlan, Gate
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.selection.adaptive import CertifiedAdaptive, adaptive_search
from vlm_bridge.selection.chains import check_chains, find_chains, front_places, gates_of, on_front
from vlm_bridge.selection.sureness import KnownAnswers, PlanAnswers, ask_plans

A, B = SkipPlan("block", 4, layers=(2, 3)), SkipPlan("block", 4, layers=(3,))
C = SkipPlan("freeze", 4, layers=(1,))
VISION = SkipPlan("block", 2, layers=(1,), stack="vision")
#: Of a plan after any others, and of the full model behind.
PRICES = {A: 0.5, B: 0.25, C: 0.125, None: 0.25}
LENGTH = {"max_new_tokens": 4}


def price(gates):
    """Every plan costs the same wherever it stands, and nothing again."""
    seen, costs = set(), []
    for gate in gates:
        costs.append(sum(PRICES[plan] for plan in gate.plans if plan not in seen))
        seen |= set(gate.plans)
    return (*costs, PRICES[None])


def table(*rows, clusters=None):
    """Rows of (text, margin) under A, then B, ...; the full model says "y" to all."""
    by_plan = {
        plan: PlanAnswers(
            tuple(text for text, _ in row),
            (0,) * len(row),
            {"margin": np.array([m for _, m in row])},
        )
        for plan, row in zip((A, B, C), rows, strict=False)
    }
    n = len(rows[0])
    return KnownAnswers(("y",) * n, clusters or tuple(map(str, range(n))), by_plan)


def test_the_front_of_a_table_by_hand():
    """A is right where B is unsure and wrong; the full model is dear, so that A is worth it."""
    known = table(
        [("y", 9.0), ("y", 8.0), ("n", 3.0), ("y", 2.0)],
        [("n", 1.0), ("y", 5.0), ("y", 5.0), ("y", 5.0)],
    )

    def front(gates, full):
        def costs(gates):
            return (*price(gates)[:-1], full)

        chains = on_front(find_chains(known, [A, B], ["margin"], costs, gates=gates))
        return {(chain.changed, chain.cost): chain.gates for chain in chains}

    always, unsure = Gate(B, threshold=-math.inf), Gate(B, threshold=(1.0 + 5.0) / 2)
    # One of four answers falls back, to the full model for 1, or to A for .5.
    alone = {(0.25, 0.25): (always,), (0.0, 0.25 + 1.0 / 4): (unsure,)}
    assert front(1, 1.0) == alone
    last = Gate(A, threshold=-math.inf)
    assert front(2, 1.0) == {(0.25, 0.25): (always,), (0.0, 0.25 + 0.5 / 4): (unsure, last)}
    # A full model that costs less than A is better behind B.
    assert front(2, 0.25) == {(0.25, 0.25): (always,), (0.0, 0.25 + 0.25 / 4): (unsure,)}


def test_agreement_tells_where_margins_do_not():
    """Both are always sure; they agree where they are right."""
    known = table(
        [("y", 1.0), ("n", 1.0), ("y", 1.0), ("y", 1.0)],
        [("y", 1.0), ("y", 1.0), ("y", 1.0), ("n", 1.0)],
    )
    alone = on_front(find_chains(known, [A, B], ["margin"], price, gates=1))
    assert min(chain.changed for chain in alone if chain.cost < 0.5) == 0.25
    both = find_chains(known, [A, B], ["agreement"], price, gates=1)
    best = min((c for c in both if not c.changed), key=lambda c: c.cost)
    (gate,) = best.gates
    assert (gate.signal, set(gate.plans)) == ("agreement", {A, B})
    assert best.cost == 0.75 + 0.25 * 2 / 4


def test_images_weigh_the_same_however_many_questions():
    known = table([("n", 1.0), ("y", 2.0), ("y", 2.0)], clusters=("a", "b", "b"))
    assert known.weights.tolist() == [0.5, 0.25, 0.25]
    fixed, alone = find_chains(known, [A], ["margin"], price, gates=1)
    assert (fixed.changed, fixed.cost) == (0.5, 0.5)
    assert (alone.changed, alone.cost) == (0.0, 0.5 + 0.5 * 0.25)


answers = st.tuples(st.sampled_from("yn"), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
two_plans = st.integers(1, 6).flatmap(
    lambda n: st.tuples(*[st.lists(answers, min_size=n, max_size=n)] * 2)
)


@settings(deadline=None)
@given(two_plans)
def test_no_chain_of_two_at_any_thresholds_is_better(rows):
    """Against all pairs of thresholds, replayed question by question."""
    known = table(*rows)
    found = find_chains(known, [A, B], ["margin"], price, gates=2)
    grid = (-math.inf, -1.0, 0.0, 0.25, 0.5, 1.0, 2.0)
    for first, second in ((A, B), (B, A)):
        for s, t in product(grid, grid):
            plan = AdaptivePlan((Gate(first, threshold=s), Gate(second, threshold=t)))
            changed, at = known.replay(plan)
            spent = np.cumsum(price(plan.gates))
            rate, cost = np.mean(changed), np.mean(spent[at])
            assert any(c.changed <= rate + 1e-9 and c.cost <= cost + 1e-9 for c in found)
    for chain in found:
        changed, at = known.replay(chain.plan)
        assert chain.changed == pytest.approx(np.mean(changed))
        assert chain.cost == pytest.approx(np.mean(np.cumsum(price(chain.gates))[at]))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 2)), max_size=20))
def test_the_front_is_what_nothing_beats(drawn):
    changed, cost = (np.array([each[i] for each in drawn]) for i in (0, 1))
    front = front_places(changed, cost)
    assert all(cost[a] < cost[b] and changed[a] > changed[b] for a, b in pairwise(front))
    for i in range(len(drawn)):
        assert any(cost[j] <= cost[i] and changed[j] <= changed[i] for j in front)


def test_more_gates_are_never_worse_and_repeat_no_answer():
    rng = np.random.default_rng(0)
    right = rng.random((3, 40)) < 0.7
    margins = rng.random((3, 40)) + 0.7 * right  # right answers are surer, not always
    rows = [
        [("y" if r else "n", m) for r, m in zip(*e, strict=True)]
        for e in zip(right, margins, strict=True)
    ]

    def costs(gates):
        return (*price(gates)[:-1], 1.0)

    known, best = table(*rows), []
    for gates in (1, 2, 3):
        chains = find_chains(known, [A, B, C], ["margin", "agreement"], costs, gates=gates)
        assert max(len(chain.gates) for chain in chains) == gates
        best.append(min(chain.cost for chain in chains if not chain.changed))
        for chain in chains:
            own = [gate.plan for gate in chain.gates if gate.second is None]
            assert len(set(own)) == len(own)
            changed, at = known.replay(chain.plan)
            assert chain.changed == pytest.approx(np.mean(changed))
            assert chain.cost == pytest.approx(np.mean(np.cumsum(costs(chain.gates))[at]))
    assert best[0] > best[1] >= best[2]


def test_a_pair_agrees_once_in_its_cheaper_order():
    def dear_first(gates):
        return (0.3 if gates[0].plan == A else 0.4, 1.0)

    (gate,) = gates_of([B, A], ["agreement"], "answer", dear_first)
    assert (gate.plan, gate.second) == (A, B)


def test_what_was_not_asked_is_refused():
    known = table([("y", 1.0)])
    with pytest.raises(BridgeError, match="no answers are known under: skip layer 3"):
        known.sureness(Gate(B))
    with pytest.raises(BridgeError, match="known over answer, and a gate is over first"):
        known.sureness(Gate(A, over="first"))
    with pytest.raises(BridgeError, match="a margin is NaN"):
        table([("y", math.nan)]).sureness(Gate(A))
    with pytest.raises(BridgeError, match="got 'margin'"):
        check_chains("margin", 1)


# --- of a model -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vlm():
    return tiny_llava()


def counted(vlm, items, plan):
    """`gate_costs` by counting every run of the chain on every question, one after another."""
    totals, whole = np.zeros(len(plan.gates) + 1), 0
    for place in range(len(items)):
        batch = collate(vlm, items, [place])
        full = SharedRun(vlm, batch, [None], max_new_tokens=1)
        whole += count_flops(partial(full.ask, None))
        for _ in range(2):  # the first block of a plan may try its layers on noise
            run = AdaptiveRun(vlm, batch, plan, max_new_tokens=1)
            steps = [*(partial(run.at_gate, gate) for gate in plan.gates), partial(run.ask, None)]
            flops = [count_flops(step) for step in steps]
        totals += flops
    return (totals / whole).tolist()


CHAINS = [
    (Gate(A),),
    (Gate(A), Gate(B)),
    (Gate(B), Gate(A)),
    (Gate(EXIT), Gate(FREEZE), Gate(C)),
    (Gate(LATE), Gate(BAND)),
    (Gate(PRUNE), Gate(A)),
    (Gate(A), Gate(PRUNE), Gate(B)),
    (Gate(VISION), Gate(B), Gate(A)),
    (Gate(A, "agreement", 0.5, second=B), Gate(C)),
    (Gate(A), Gate(B, "agreement", 0.5, second=A)),
]


@pytest.mark.parametrize("gates", CHAINS, ids=lambda gates: "; ".join(g.describe() for g in gates))
def test_costs_by_arithmetic_are_those_of_counted_runs(vlm, pictures, gates):
    plan = AdaptivePlan(gates)
    found = gate_costs(vlm, pictures[:2], plan)
    assert found == pytest.approx(counted(vlm, pictures[:2], plan), rel=1e-9)
    together = PrefillFlops.count(vlm, pictures[:2], [A, B, C, EXIT, *plan.plans])
    assert together.costs(gates) == pytest.approx(found, rel=1e-12)


@pytest.mark.parametrize("over", ["answer", "first"])
def test_a_replay_is_what_a_run_does(vlm, pictures, over):
    full = FullAnswers.ask(vlm, pictures, **LENGTH)
    plans = [A, B, EXIT]
    known = ask_plans(full, vlm, plans, over=over, batch_size=16)
    middle = {
        (plan, name): float(np.median(known.by_plan[plan].signals[name]))
        for plan in plans
        for name in ("margin", "entropy", "confidence")
    }
    first = [Gate(plan, name, limit, over) for (plan, name), limit in middle.items()]
    chains = [(gate,) for gate in first]
    chains += [
        (Gate(A, "margin", middle[A, "margin"], over), Gate(B, "agreement", 0.5, over, A)),
        (Gate(EXIT, "agreement", 0.5, over, B), Gate(A, "entropy", middle[A, "entropy"], over)),
    ]
    seen = set()
    for gates in chains:
        changed, at = known.replay(AdaptivePlan(gates))
        made = adaptive_answers(vlm, full.items, AdaptivePlan(gates), **LENGTH)
        assert list(made.gates) == at
        assert changed == [float(a != b) for a, b in zip(made.texts, full.texts, strict=True)]
        seen |= set(at)
    assert seen == {0, 1, 2}


@pytest.mark.slow
def test_chains_that_are_found_do_in_a_run_what_they_do_in_the_table(vlm, pictures):
    """Behind a first gate a batch is smaller, so that signals are rounded otherwise."""
    full = FullAnswers.ask(vlm, pictures, **LENGTH)
    plans, signals = [A, B, EXIT], ["margin", "entropy"]
    known = ask_plans(full, vlm, plans, over="answer", batch_size=16)
    flops = PrefillFlops.count(vlm, pictures[:2], plans)
    found = find_chains(known, plans, signals, flops.costs, gates=2)
    assert {len(chain.gates) for chain in found} == {1, 2}
    for chain in found:
        changed, at = known.replay(AdaptivePlan(chain.gates))
        made = adaptive_answers(vlm, full.items, AdaptivePlan(chain.gates), **LENGTH)
        assert list(made.gates) == at
        assert changed == [float(a != b) for a, b in zip(made.texts, full.texts, strict=True)]


def test_every_plan_answers_once(vlm, pictures, tmp_path, monkeypatch):
    """However many signals and gates; and a second search asks nothing."""
    asked, ask = [], SharedRun.ask
    monkeypatch.setattr(SharedRun, "ask", lambda run, plan: (asked.append(plan), ask(run, plan))[1])
    full = FullAnswers.ask(vlm, pictures, **LENGTH)
    ask_plans(full, vlm, [A, B, A], batch_size=16, checkpoint=tmp_path)
    assert sorted(map(str, asked)) == sorted(map(str, [A, B]))
    ask_plans(full, vlm, [B, A], batch_size=16, checkpoint=tmp_path)
    assert len(asked) == 2


@pytest.mark.slow
def test_a_search_certifies_a_chain(tmp_path_factory, monkeypatch):
    """The path, the front and the certificate are of chains; each step was run."""
    monkeypatch.setattr(adaptive_cost, "SAMPLED", 2)
    vlm = tiny_llava(layers=8, scale=3.0)
    items = asked_pictures(tmp_path_factory.mktemp("more"), 60)
    plans = [SkipPlan("block", 8, layers=tuple(range(first, 8))) for first in (4, 6, 7)]
    plans.append(SkipPlan("freeze", 8, layers=(6, 7)))
    short = {"max_new_tokens": 2, "epsilon": 0.4}
    wanted = {"signals": ["margin", "agreement"], "gates": 2, **short}
    found = adaptive_search(vlm, items[:20], items[20:], plans, **wanted)
    assert found.certificate.holds
    assert len(found.plan.gates) == 2
    assert found.plan.provenance.settings["gates"] == 2
    one = adaptive_search(vlm, items[:20], items[20:], plans, **short)
    cheapest = [min(m.cost.value for m in f.front if not m.changed.value) for f in (found, one)]
    assert cheapest[0] < cheapest[1]
    last = found.tested[sum(each.holds for each in found.certificates) - 1]
    made = adaptive_answers(vlm, items[20:], last.plan, max_new_tokens=2)
    full = FullAnswers.ask(vlm, items[20:], max_new_tokens=2)
    changed = np.mean([a != b for a, b in zip(made.texts, full.texts, strict=True)])
    assert last.changed.value == pytest.approx(changed)
    assert CertifiedAdaptive.from_json(found.to_json()) == found
