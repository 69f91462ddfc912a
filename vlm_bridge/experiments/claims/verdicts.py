"""From p-values to verdicts: Holm over all tests, the points of section 6, and all models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims.protocol import (
    ALPHA,
    CLAUSES,
    ENOUGH_REFUTED,
    ENOUGH_SUPPORT,
    SHUFFLED,
)
from vlm_bridge.experiments.claims.results import ModelClaims, TestResult

SUPPORTED, REFUTED, UNDECIDED = "supported", "refuted", "undecided"
#: Of a clause that all points support but the one that is expected to fail.
ONLY_SHUFFLED = "all but the point on shuffled images would support it"


@dataclass(frozen=True)
class Verdict:
    """The verdict on one clause in one model, whose seeds count as one.

    Attributes:
        clause: its id.
        model: name of the model.
        verdict: `SUPPORTED`, `REFUTED` or `UNDECIDED`.
        p, p_opposite: the worse of the seeds, before correction.
        adjusted, adjusted_opposite: after Holm's correction over all tests of all models.
        contradicted: the certificate of an across-models claim is contradicted in every seed.
        reasons: what decided, or what is missing.
    """

    clause: str
    model: str
    verdict: str
    p: float
    p_opposite: float
    adjusted: float
    adjusted_opposite: float
    contradicted: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Overall:
    """The verdict on one clause over all models that were tested for it."""

    clause: str
    verdict: str
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
        BridgeError: results of different protocols, or one run twice.
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
        (max(r.p for r in results), max(r.p_opposite for r in results)) for *_, results in tested
    ]
    forward, opposite = holm([p for p, _ in worst]), holm([p for _, p in worst])
    return [
        _verdict(name, clause, results, p, (float(a), float(b)))
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
) -> Verdict:
    points = [point for result in results for point in result.points]
    failed = [f"{point.name}: {point.text}" for point in points if not point.holds]
    reversed_by = {
        point.name
        for point in points
        if point.reversed and all(each.reversed for each in points if each.name == point.name)
    }
    reasons = tuple(dict.fromkeys(result.reason for result in results if result.reason))
    if adjusted[1] <= ALPHA:
        verdict = REFUTED
        reasons += (f"the opposite is shown (p {adjusted[1]:.2g} after correction)",)
    elif reversed_by:
        verdict = REFUTED
        reasons += tuple(f"{name} give at least as large a value" for name in sorted(reversed_by))
    elif adjusted[0] <= ALPHA and not failed:
        verdict = SUPPORTED
        reasons += (f"p {adjusted[0]:.2g} after correction, and every point holds",)
    else:
        verdict = UNDECIDED
        if adjusted[0] > ALPHA:
            reasons += (f"p {adjusted[0]:.2g} after correction",)
        elif all(point.holds or point.name == SHUFFLED for point in points):
            reasons += (ONLY_SHUFFLED,)
        reasons += tuple(dict.fromkeys(failed))
    return Verdict(
        clause=clause,
        model=model,
        verdict=verdict,
        p=p[0],
        p_opposite=p[1],
        adjusted=adjusted[0],
        adjusted_opposite=adjusted[1],
        contradicted=all(result.contradicted for result in results),
        reasons=reasons,
    )


def overall(verdicts: Sequence[Verdict]) -> list[Overall]:
    """The verdict on every clause over all models, in the order of `CLAUSES`.

    Supported if supported in four models at least and refuted in none; refuted if refuted in two,
    or, of a claim about all models, if one certificate is contradicted; else undecided.
    """
    found = []
    for clause in CLAUSES.values():
        own = [each for each in verdicts if each.clause == clause.id]
        counts = Counter(each.verdict for each in own)
        contradicted = [each.model for each in own if clause.across and each.contradicted]
        said = {name: counts[name] for name in (SUPPORTED, REFUTED, UNDECIDED)}
        numbers = ", ".join(f"{count} {name}" for name, count in said.items())
        reason = f"{numbers} of {len(own)} models"
        if counts[REFUTED] >= ENOUGH_REFUTED:
            verdict = REFUTED
        elif contradicted:
            verdict = REFUTED
            reason += f"; its certificate is contradicted in {', '.join(contradicted)}"
        elif counts[SUPPORTED] >= ENOUGH_SUPPORT and not counts[REFUTED]:
            verdict = SUPPORTED
        else:
            verdict = UNDECIDED
        found.append(Overall(clause.id, verdict, said, reason))
    return found


def check_joinable(models: Sequence[ModelClaims]) -> None:
    """Raise a `BridgeError` unless all results follow one protocol and none is there twice."""
    protocols = sorted({(each.protocol, each.protocol_sha256) for each in models})
    if len(protocols) > 1:
        names = ", ".join(commit[:12] for commit, _ in protocols)
        raise BridgeError(
            f"the results follow {len(protocols)} versions of docs/protocol.md ({names}); "
            "join results of one version only"
        )
    runs = [(each.name, each.fingerprint) for each in models]
    if twice := [name for (name, _), count in Counter(runs).items() if count > 1]:
        raise BridgeError(f"a run of {twice[0]} with the same weights is there twice")
