"""The tests of section 5 on one model: p-values for and against, and the points of section 6."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from estimators import Estimate
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims import protocol
from vlm_bridge.experiments.claims.p_values import (
    Floats,
    RankTest,
    pairs_p_values,
    rank_among,
    rank_test,
    share_p_values,
)
from vlm_bridge.experiments.claims.plans import PlanSet, search_p_values
from vlm_bridge.experiments.claims.results import Latency, Point, TestResult
from vlm_bridge.experiments.claims.subject import AnswerBook, Subject, share
from vlm_bridge.figures.numbers import bracketed
from vlm_bridge.plan.skip_plan import SkipPlan

#: A statistic of every image of a subject, in [low, high]; large values support the clause.
PerImage = Callable[[Subject], Floats]
NOTHING = "no plan of ours was certified"


def rank_tests(model: Subject, nulls: Sequence[Subject]) -> Iterator[TestResult]:
    """V1-coincide, V2-measurable and V2-align, as far as the model has the modes."""
    modes = [
        mode
        for mode in protocol.ALIGNED
        if model.has(mode) and len(model.counted_units(mode)) >= protocol.FEWEST_UNITS
    ]
    both = [_ranks("V1-coincide", m, model, nulls, coincidence) for m in modes if m in _POPULAR]
    if both:
        yield worse(both)
    if "freeze" in modes:
        yield _ranks("V2-measurable", "freeze", model, nulls, alignment)
    for mode in modes:
        yield _ranks(f"V2-align/{mode}", mode, model, nulls, alignment)


_POPULAR = protocol.POPULAR


def worse(results: Sequence[TestResult]) -> TestResult:
    """One test of several modes: the worse p-value of each direction, and the points of all."""
    shown = max(results, key=lambda result: result.p)
    return replace(
        shown,
        mode=", ".join(result.mode for result in results),
        p_opposite=max(result.p_opposite for result in results),
        points=tuple(point for result in results for point in result.points),
        rotation_p=max((r.rotation_p for r in results if r.rotation_p is not None), default=None),
    )


def coincidence(subject: Subject, mode: str) -> RankTest:
    """Our scores with those of the popular method, given depth."""
    return _test(subject, mode, subject.scores(_POPULAR[mode], mode))


def alignment(subject: Subject, mode: str) -> RankTest:
    """Our scores with harm, given depth."""
    return _test(subject, mode, subject.harm(mode))


def _test(subject: Subject, mode: str, measured: Floats) -> RankTest:
    settings = subject.settings
    return rank_test(
        subject.scores(protocol.OURS, mode),
        measured,
        subject.depth(mode),
        samples=settings.samples,
        seed=settings.seed,
    )


def _ranks(
    clause: str,
    mode: str,
    model: Subject,
    nulls: Sequence[Subject],
    of: Callable[[Subject, str], RankTest],
) -> TestResult:
    try:
        found = of(model, mode)
    except BridgeError as error:
        return TestResult(clause, mode, None, 1.0, 1.0, (), reason=str(error))

    def against(null: Subject) -> Point:
        other = of(null, mode)
        difference = found.minus(other)
        refutes = null.kind == protocol.RANDOM_WEIGHTS
        return null_point(null.kind, found.estimate, other.estimate, difference, refutes=refutes)

    points = tuple(_null_points(model, nulls, against))
    return TestResult(
        clause, mode, found.estimate, found.p, found.p_opposite, points, found.rotation_p
    )


def null_point(
    name: str, own: Estimate, null: Estimate, difference: Estimate, *, refutes: bool = False
) -> Point:
    """Point 3: the interval of the difference lies above 0.

    With `refutes` a null that surpasses the model's value refutes the clause.
    """
    holds = bool(difference.interval[0] > 0)
    surpasses = refutes and bool(null.value >= own.value and null.interval[0] > own.value)
    text = f"{bracketed(own)} and there {bracketed(null)}, difference {bracketed(difference)}"
    return Point(name, holds, difference, text, surpasses, null)


def _null_points(
    model: Subject, nulls: Sequence[Subject], against: Callable[[Subject], Point]
) -> Iterator[Point]:
    """A point for each null that the protocol names; one that was not measured does not hold."""
    measured = {null.kind: null for null in nulls}
    texts = not any(item.files for item in model.test.items)
    for name in protocol.NULLS:
        if name == protocol.SHUFFLED and texts:
            continue  # there is no image to shuffle
        if name not in measured:
            yield Point(name, False, None, "not measured")
            continue
        try:
            yield against(measured[name])
        except BridgeError as error:
            yield Point(name, False, None, f"not measured: {error}")


def plan_tests(
    model: Subject,
    nulls: Sequence[Subject],
    ours: PlanSet,
    latency: Latency | None,
) -> Iterator[TestResult]:
    """V1-faster, V1-safe and V1-others, of our plan."""
    if ours.search is None:
        raise BridgeError(f"a plan of ours is certified by a search; {ours.role} has none")
    p, opposite = search_p_values(ours.search, model.settings.epsilon)
    mode, plan = ours.mode, ours.plan
    if plan is None or latency is None:
        yield TestResult("V1-faster", mode, None, 1.0, 1.0, (), reason=NOTHING)
        yield TestResult("V1-safe", mode, None, 1.0, 1.0, (), reason=NOTHING)
        yield TestResult("V1-others", mode, None, 1.0, 1.0, (), reason=NOTHING)
        return
    of_plan = tuple(_plan_points(model, ours))
    ratio = latency.prefill.latency_ratio
    gain = _mapped(ratio, lambda value: 1.0 - value)
    yield TestResult("V1-faster", mode, gain, *pairs_p_values(latency.ratios), of_plan)
    kept = _kept(plan)
    safe = (*of_plan, _on_test_images(model, plan), *_share_points(model, nulls, kept, 0.0, 1.0))
    yield TestResult("V1-safe", mode, share(kept(model), model.test.items), p, opposite, safe)
    yield _others(model, nulls, ours)


def third_test(
    clause: str,
    model: Subject,
    nulls: Sequence[Subject],
    certification: AnswerBook,
    of: PlanSet,
) -> TestResult:
    """V2-early or V2-late: a certificate, with fewer changed answers than random plans.

    The last third is itself the deepest plan of its size, with which it is not compared.
    """
    plan = of.plan
    if plan is None:
        raise BridgeError("a third of the layers is a plan, got none")
    changed, epsilon = certification.changed(plan), model.settings.epsilon
    p, opposite = share_p_values(changed, epsilon)
    kept = _kept(plan)
    points = (
        *_plan_points(model, of),
        _on_test_images(model, plan),
        *_share_points(model, nulls, kept, 0.0, 1.0),
    )
    if of.plan == of.deepest:
        points = tuple(point for point in points if point.name != protocol.DEPTH)
    return TestResult(
        clause,
        of.mode,
        share(1.0 - changed, certification.items),
        p,
        opposite,
        points,
    )


def _others(model: Subject, nulls: Sequence[Subject], ours: PlanSet) -> TestResult:
    """V1-others: our least safe plan changes more than epsilon, than random plans, than depth's."""
    worst, shallow = ours.least_safe, ours.shallowest
    if worst is None or shallow is None:
        raise BridgeError(f"mode {ours.mode} has no plan that our rule ranks least safe")
    changed = model.test.changed(worst)

    def excess(subject: Subject) -> Floats:
        drawn = subject.test.all_changed(ours.random).mean(axis=1)
        return np.asarray(subject.test.changed(worst) - drawn)

    over = share(changed - model.test.changed(shallow), model.test.items, -1.0, 1.0)
    first = Point(
        protocol.DEPTH,
        bool(over.interval[0] > 0),
        over,
        f"it changes {bracketed(over)} more answers than the shallowest plan of its size",
    )
    points: tuple[Point, ...] = (first, _random_point(model, ours, worst, more=True))
    if ours.random:
        points += _share_points(model, nulls, excess, -1.0, 1.0)
    opposite, p = share_p_values(changed, model.settings.epsilon)
    return TestResult("V1-others", ours.mode, share(changed, model.test.items), p, opposite, points)


def _random_point(model: Subject, of: PlanSet, plan: SkipPlan, *, more: bool = False) -> Point:
    """Point 2: fewer changed answers than random plans of its size (or `more`), by its rank."""
    if not of.random:
        return Point(protocol.RANDOM_PLANS, False, None, "no other plan of its size exists")
    drawn, changed = model.test.all_changed(of.random), model.test.changed(plan)
    p = rank_among(float(changed.mean()), drawn.mean(axis=0))[more]
    gap = share(drawn.mean(axis=1) - changed, model.test.items, -1.0, 1.0)
    text = (
        f"{len(of.random)} random plans change {bracketed(gap)} more answers on average; "
        f"p of its rank among them {p:.2g}"
    )
    return Point(protocol.RANDOM_PLANS, p <= protocol.ALPHA, gap, text)


def _plan_points(model: Subject, of: PlanSet) -> Iterator[Point]:
    """Points 1 and 2: fewer changed answers than the deepest plan, and than random plans."""
    if of.plan is None or of.deepest is None:
        return
    changed = model.test.changed(of.plan)
    over = share(model.test.changed(of.deepest) - changed, model.test.items, -1.0, 1.0)
    holds = bool(over.interval[0] > 0)
    text = f"the deepest plan of its size changes {bracketed(over)} more answers"
    yield Point(
        protocol.DEPTH, holds, over, text if holds else f"only as good as depth alone: {text}"
    )
    yield _random_point(model, of, of.plan)


def _on_test_images(model: Subject, plan: SkipPlan) -> Point:
    """Test images do not contradict a certificate: their interval begins at or below epsilon."""
    changed = share(model.test.changed(plan), model.test.items)
    holds = bool(changed.interval[0] <= model.settings.epsilon)
    return Point(
        protocol.TEST_IMAGES, holds, changed, f"{bracketed(changed, '.3f')} of the answers change"
    )


def _share_points(
    model: Subject, nulls: Sequence[Subject], of: PerImage, low: float, high: float
) -> tuple[Point, ...]:
    """Point 3 of a statistic that is a mean over images; nulls are paired with their questions."""

    def against(null: Subject) -> Point:
        own, other = of(model), of(null)
        paired, items = own[: len(other)] - other, model.test.items[: len(other)]
        difference = share(paired, items, low - high, high - low)
        stand = share(other, null.test.items, low, high)
        return null_point(null.kind, share(own, model.test.items, low, high), stand, difference)

    return tuple(_null_points(model, nulls, against))


def _kept(plan: SkipPlan) -> PerImage:
    return lambda subject: np.asarray(1.0 - subject.test.changed(plan))


def _mapped(estimate: Estimate, of: Callable[[float], float]) -> Estimate:
    """An estimate of a decreasing function of the value."""
    low, high = estimate.interval
    return Estimate(
        value=of(estimate.value),
        interval=(of(high), of(low)),
        level=estimate.level,
        n=estimate.n,
        method=estimate.method,
        reliable=estimate.reliable,
        reason=estimate.reason,
    )
