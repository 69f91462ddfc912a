"""Chains of gates on known answers: plans and thresholds together, by arithmetic alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.plan.adaptive import MAX_GATES, SIGNALS, AdaptivePlan, Gate
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.selection.sureness import KnownAnswers

#: What each of some gates adds, and the full model behind them; see `PrefillFlops.costs`.
Costs = Callable[[Sequence[Gate]], tuple[float, ...]]
#: Digits of rates and costs; more differ by the order of a sum.
_DIGITS = 12


@dataclass(frozen=True)
class Chain:
    """Gates with thresholds, and what they do to the known questions; means over images.

    Attributes:
        gates: in the order in which they are tried.
        changed: share of changed answers.
        cost: expected prefill FLOPs over the full model's; see `expected_cost`.
    """

    gates: tuple[Gate, ...]
    changed: float
    cost: float

    @property
    def plan(self) -> AdaptivePlan:
        """The adaptive plan."""
        return AdaptivePlan(self.gates)


def check_chains(signals: Sequence[str], gates: int) -> None:
    """Raise a `BridgeError` for signals or a number of gates that no search can try."""
    if isinstance(signals, str) or not signals or not set(signals) <= set(SIGNALS):
        raise BridgeError(
            f"signals of a search are a list of some of {', '.join(SIGNALS)}, got {shown(signals)}"
        )
    most: Any = gates
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MAX_GATES:
        raise BridgeError(
            f"gates of a search are a number from 1 to {MAX_GATES}, got {shown(gates)}"
        )


def gates_of(
    plans: Sequence[SkipPlan], signals: Sequence[str], over: str, costs: Costs
) -> list[Gate]:
    """A gate for every plan and signal, without threshold; for `agreement` one for every pair.

    Of a pair that order is taken in which both plans together cost less.
    """
    own = [signal for signal in signals if signal != "agreement"]
    gates = [Gate(plan, signal, over=over) for plan in plans for signal in own]
    for a, b in combinations(plans, 2) if "agreement" in signals else ():
        both = [Gate(x, "agreement", over=over, second=y) for x, y in ((a, b), (b, a))]
        gates.append(min(both, key=lambda gate: costs([gate])[0]))
    return gates


def find_chains(
    known: KnownAnswers,
    plans: Sequence[SkipPlan],
    signals: Sequence[str],
    costs: Costs,
    *,
    gates: int,
) -> list[Chain]:
    """Fixed plans, every gate at every threshold that matters, and the best longer chains.

    A threshold matters if it lies just above the signal of a changed answer: any other lets as many
    changed answers stand as the next such one below, and sends more answers on. So for chains of
    one and two gates of different plans, none is better, in changed answers and cost, than all that
    are returned. Two gates of one plan with two signals of its own are not tried. A chain of more
    gates is one of those on the front with one gate less, and a gate behind it: not all are tried.

    Args:
        known: answers to the tuning questions under all plans.
        plans: the candidates.
        signals: some of `SIGNALS`.
        costs: of some gates in their order; thresholds do not matter.
        gates: most gates of a chain.

    Returns:
        Fixed plans, one for each of `plans`, then chains of one gate, and of every larger number
        of gates those to which none of this number is better in both.
    """
    check_chains(signals, gates)
    begin = [Gate(plan, threshold=-math.inf, over=known.over) for plan in plans]
    fixed = [chain for gate in begin for chain in _appended(known, (), [()], gate, costs)]
    kinds = gates_of(plans, signals, known.over, costs)
    found = [chain for kind in kinds for chain in _appended(known, (), [()], kind, costs)]
    found = [*fixed, *(chain for chain in found if chain.gates[0].threshold > -math.inf)]
    shorter = found[len(fixed) :]
    for _ in range(1, gates):
        groups = _alike(shorter)
        longer = [chain for group in groups for chain in _behind(known, group, kinds, costs)]
        shorter = on_front(longer)
        found += shorter
    return found


def on_front(chains: Sequence[Chain]) -> list[Chain]:
    """The chains to which no other is better in both changed answers and cost, cheapest first."""
    changed, cost = (np.array([getattr(c, name) for c in chains]) for name in ("changed", "cost"))
    return [chains[place] for place in front_places(changed, cost)]


def front_places(changed: NDArray[np.float64], cost: NDArray[np.float64]) -> list[int]:
    """The places to which no other has less in both, the cheapest first; one of equals.

    >>> front_places(np.array([0.1, 0.0, 0.2, 0.05]), np.array([0.5, 0.8, 0.6, 0.7]))
    [0, 3, 1]
    """
    order = np.lexsort((changed, cost))
    before = np.minimum.accumulate(np.concatenate(([np.inf], changed[order])))[:-1]
    return [int(place) for place in order[changed[order] < before]]


def _alike(chains: Iterable[Chain]) -> Iterator[list[Chain]]:
    """Chains that differ in thresholds alone, together."""
    groups: dict[tuple[Gate, ...], list[Chain]] = {}
    for chain in chains:
        kinds = tuple(replace(gate, threshold=0.0) for gate in chain.gates)
        groups.setdefault(kinds, []).append(chain)
    yield from groups.values()


def _behind(
    known: KnownAnswers, group: Sequence[Chain], kinds: Sequence[Gate], costs: Costs
) -> Iterator[Chain]:
    """A gate more behind chains of the same gates; one whose plans all stand there is left out."""
    first = group[0].gates
    used = {gate.plan for gate in first}
    for kind in kinds:
        # Of a plan that was not sure enough of an answer, agreement may still tell.
        new = kind.second is not None and kind.second not in used
        if kind.plan not in used or new:
            yield from _appended(known, first, [chain.gates for chain in group], kind, costs)


def _appended(
    known: KnownAnswers,
    alike: tuple[Gate, ...],
    before: Sequence[tuple[Gate, ...]],
    kind: Gate,
    costs: Costs,
) -> list[Chain]:
    """The front of chains of `before`, which have the gates `alike`, and then one gate more."""
    weights, sure = known.weights, known.sureness(kind)
    limits = [kind.threshold] if kind.threshold == -math.inf else sure.thresholds()
    price = costs([*alike, kind])
    left = np.ones((len(before), len(weights)), bool)
    changed, spent = np.zeros(len(before)), np.zeros(len(before))
    of_alike = [known.sureness(gate) for gate in alike]
    for number, (at, cost) in enumerate(zip(of_alike, price, strict=False)):
        thresholds = np.array([gates[number].threshold for gates in before])
        spent += cost * (left @ weights)
        stands = left & (at.signals > thresholds[:, None])
        changed += stands @ (weights * at.changed)
        left &= ~stands
    stands = (sure.signals > np.array(limits)[:, None]).astype(float)  # (thresholds, n)
    still = left * weights
    reach = still.sum(1)[:, None]
    rates = changed[:, None] + (still * sure.changed) @ stands.T
    totals = spent[:, None] + price[-2] * reach + price[-1] * (reach - still @ stands.T)
    rates, totals = (np.round(each, _DIGITS).ravel() for each in (rates, totals))
    chains = []
    for place in front_places(rates, totals):
        gate = replace(kind, threshold=limits[place % len(limits)])
        gates = (*before[place // len(limits)], gate)
        chains.append(Chain(gates, float(rates[place]), float(totals[place])))
    return chains
