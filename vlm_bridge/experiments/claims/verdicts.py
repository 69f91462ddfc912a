"""From p-values to verdicts: Holm over all tests, the points of section 6, and all models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims.protocol import (
    CLAUSES,
    ENOUGH_REFUTED,
    ENOUGH_SUPPORT,
    ONE_SIDED,
    SHUFFLED,
)
from vlm_bridge.experiments.claims.results import ModelClaims, Point, TestResult

SUPPORTED, REFUTED, UNDECIDED = "supported", "refuted", "undecided"


@dataclass(frozen=True)
class Verdict:
    """The verdict on one clause in one model, whose seeds count as one.

    Attributes:
        clause: its id.
        model: name of the model.
        verdict: `SUPPORTED`, `REFUTED` or `UNDECIDED`.
        without_shuffled: what it is if the point on shuffled images does not count.
        p, p_opposite: the worse of the seeds, before correction.
        adjusted, adjusted_opposite: after Holm's correction over all tests of all models.
        reasons: what decided, or what is missing.
    """

    clause: str
    model: str
    verdict: str
    without_shuffled: str
    p: float
    p_opposite: float
    adjusted: float
    adjusted_opposite: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Overall:
    """The verdict on one clause over all models that were tested for it.

    `without_shuffled` is what it is if the point on shuffled images does not count.
    """

    clause: str
    verdict: str
    without_shuffled: str
    counts: Mapping[str, int]
    reason: str


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Holm's adjusted p-values: reject at level a where they are at most a.

    `max over j <= i of min(1, (m - j + 1) p_(j))`, with the p-values in ascending order.

    Source:
        Holm 1979, Scandinavian Journal of Statistics 6.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(9).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise BridgeError(f"p-values must be numbers in [0, 1], got {list(p_values)}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(
        np.minimum(1.0, p[order] * (len(p) - np.arange(len(p))))
    )
    return adjusted


def judge(models: Sequence[ModelClaims]) -> list[Verdict]:
    """The verdict on every tested clause in every model that enters.

    Runs of one name are seeds of one model: the worse p-value counts, and every point must hold in
    each. A model of which one seed does not enter is left out.

    Raises:
        BridgeError: as `check_joinable`.
    """
    check_joinable(models)
    groups: dict[str, list[ModelClaims]] = {}
    for each in judged(models):
        groups.setdefault(each.name, []).append(each)
    tested = [
        (name, clause, [result for seed in seeds for result in seed.tests if result.id == clause])
        for name, seeds in groups.items()
        for clause in CLAUSES
    ]
    tested = [each for each in tested if each[2]]
    worst = [
        (max(r.p for r in results), max(r.p_opposite for r in results))
        if len(results) == len(groups[name])
        else (1.0, 1.0)
        for name, _, results in tested
    ]
    forward, opposite = holm([p for p, _ in worst]), holm([p for _, p in worst])
    return [
        _verdict(name, clause, results, p, (float(a), float(b)), seeds=len(groups[name]))
        for (name, clause, results), p, a, b in zip(tested, worst, forward, opposite, strict=True)
    ]


def judged(models: Sequence[ModelClaims]) -> list[ModelClaims]:
    """The runs that verdicts count: those of models of which every seed enters."""
    out = {each.name for each in models if not each.entry.enters}
    return [each for each in models if each.name not in out]


def _verdict(
    model: str,
    clause: str,
    results: Sequence[TestResult],
    p: tuple[float, float],
    adjusted: tuple[float, float],
    *,
    seeds: int,
) -> Verdict:
    points = [point for result in results for point in result.points]
    verdict, why = _decided(points, adjusted)
    reasons = tuple(dict.fromkeys(result.reason for result in results if result.reason))
    if len(results) < seeds:
        reasons += (f"only {len(results)} of {seeds} seeds could be tested",)
    return Verdict(
        clause=clause,
        model=model,
        verdict=verdict,
        without_shuffled=_decided([p for p in points if p.name != SHUFFLED], adjusted)[0],
        p=p[0],
        p_opposite=p[1],
        adjusted=adjusted[0],
        adjusted_opposite=adjusted[1],
        reasons=reasons + why,
    )


def _decided(points: Sequence[Point], adjusted: tuple[float, float]) -> tuple[str, tuple[str, ...]]:
    """The verdict of p-values, for and against, and of points; and what decided."""
    reversed_by = {
        point.name
        for point in points
        if point.reversed and all(each.reversed for each in points if each.name == point.name)
    }
    if adjusted[1] <= ONE_SIDED:
        return REFUTED, (f"the opposite is shown (p {adjusted[1]:.2g} after correction)",)
    if reversed_by:
        larger = (f"{name} give at least as large a value" for name in sorted(reversed_by))
        return REFUTED, tuple(larger)
    failed = [f"{point.name}: {point.text}" for point in points if not point.holds]
    if adjusted[0] <= ONE_SIDED and not failed:
        return SUPPORTED, (f"p {adjusted[0]:.2g} after correction, and every point holds",)
    missed = (f"p {adjusted[0]:.2g} after correction",) if adjusted[0] > ONE_SIDED else ()
    return UNDECIDED, (*missed, *dict.fromkeys(failed))


def overall(verdicts: Sequence[Verdict]) -> list[Overall]:
    """The verdict on every clause over all models, in the order of `CLAUSES`.

    Supported if supported in four models at least and refuted in none; refuted if refuted in two,
    or, of a claim about all models, in one; else undecided.
    """
    found = []
    for clause in CLAUSES.values():
        own = [each for each in verdicts if each.clause == clause.id]
        counts = Counter(each.verdict for each in own)
        said = {name: counts[name] for name in (SUPPORTED, REFUTED, UNDECIDED)}
        numbers = ", ".join(f"{count} {name}" for name, count in said.items())
        without = Counter(each.without_shuffled for each in own)
        found.append(
            Overall(
                clause.id,
                _over(counts, across=clause.across),
                _over(without, across=clause.across),
                said,
                f"{numbers} of {len(own)} models",
            )
        )
    return found


def _over(counts: Mapping[str, int], *, across: bool) -> str:
    if counts[REFUTED] >= (1 if across else ENOUGH_REFUTED):
        return REFUTED
    enough = counts[SUPPORTED] >= ENOUGH_SUPPORT and not counts[REFUTED]
    return SUPPORTED if enough else UNDECIDED


def check_joinable(models: Sequence[ModelClaims]) -> None:
    """Raise a `BridgeError` unless all runs follow one protocol with the same settings, each once.

    Weights count once, under whatever name, and runs of one name are of the same data.
    """
    protocols = sorted({(each.protocol, each.protocol_sha256) for each in models})
    if len(protocols) > 1:
        names = ", ".join(commit[:12] for commit, _ in protocols)
        raise BridgeError(
            f"the results follow {len(protocols)} versions of docs/protocol.md ({names}); "
            "join results of one version only"
        )
    known: dict[str, ModelClaims] = {}
    data: dict[str, str] = {}
    for each in models:
        if other := known.get(each.fingerprint):
            raise BridgeError(
                f"{each.model} is there twice with the same weights, as {other.name} and "
                f"{each.name}; join one run of each"
            )
        known[each.fingerprint] = each
        if data.setdefault(each.name, each.data) != each.data:
            raise BridgeError(
                f"runs of the name {each.name} are of {data[each.name]} and {each.data}; seeds of "
                "one model answer the same data"
            )
        if each.unregistered != models[0].unregistered:
            found = "; ".join(dict.fromkeys([*models[0].unregistered, *each.unregistered]))
            raise BridgeError(
                f"{models[0].model} and {each.model} were run with different settings ({found}); "
                "join runs of the same settings"
            )
