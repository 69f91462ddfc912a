"""Made-up results of the protocol, for tests of verdicts and pages."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from estimators import Estimate
from vlm_bridge.experiments.claims import protocol
from vlm_bridge.experiments.claims.results import (
    Entry,
    ModeHarm,
    ModelClaims,
    Point,
    RuleRank,
    TestResult,
)


def estimate(value: float, low: float | None = None, high: float | None = None) -> Estimate:
    ends = (value if low is None else low, value if high is None else high)
    return Estimate(value=value, interval=ends, n=60, method="made up")


def null(name: str, own: float, other: float, half: float = 0.1) -> Point:
    gap = own - other
    return Point(
        name=name,
        holds=gap - half > 0,
        value=estimate(gap, gap - half, gap + half),
        text="made up",
        reversed=other >= own and other - half > own,
        null=estimate(other, other - half, other + half),
    )


def passing() -> tuple[Point, ...]:
    return tuple(null(name, 0.6, 0.1) for name in protocol.NULLS)


def made_test(clause: str, p: float, opposite: float | None = None, **fields) -> TestResult:
    return TestResult(
        **{
            "id": clause,
            "mode": "freeze",
            "effect": estimate(0.6, 0.4, 0.8),
            "p": p,
            "p_opposite": 1 - p if opposite is None else opposite,
            "points": passing(),
            **fields,
        }
    )


def run(name: str, *tests: TestResult, enters: bool = True, **fields) -> ModelClaims:
    """A run with these tests, of 12 layers."""
    places = tuple(map(float, range(12)))
    rank = RuleRank("skip-it-slopes", places, estimate(0.5, 0.1, 0.9), 1 / 12)
    block = ModeHarm(
        mode="block",
        places=places,
        counted=tuple(2 <= i < 11 for i in range(12)),
        mean=tuple(i / 12 for i in range(12)),
        low=(0.0,) * 12,
        high=(1.0,) * 12,
        n_images=60,
        rules=(rank,),
    )
    return ModelClaims(
        **{
            "protocol": protocol.COMMIT,
            "protocol_sha256": protocol.SHA256,
            "name": name,
            "model": f"{name}-weights",
            "fingerprint": name,
            "n_layers": 12,
            "data": "made-up",
            "sources": (),
            "counts": {"test": 60},
            "hashes": {"test": "0"},
            "unit": "images",
            "settings": {},
            "entry": Entry(estimate(0.9), estimate(0.3), 0.5, 12, enters, "made up"),
            "harm": (block, replace(block, mode="early_exit", places=places[1:], mean=(0.5,) * 11)),
            "plans": (),
            "latency": None,
            "tests": tests,
            "stability": (),
            "behaviour": None,
            "promise": None,
            "refused": ("shortv, freeze: made up",),
            "machine": {"command": "made"},
            "seconds": 1.0,
            **fields,
        }
    )


def all_tests(p: float, **fields) -> tuple[TestResult, ...]:
    return tuple(made_test(clause, p, **fields) for clause in protocol.CLAUSES)


UNDEFINED = Estimate(
    value=math.nan,
    interval=(-math.inf, math.inf),
    n=60,
    method="made up",
    reliable=False,
    reason="not defined",
)


def world(units: int, images: int, seed: int, *, coupled: float) -> tuple[np.ndarray, ...]:
    """Scores, (images, units) changes and depth; harm follows depth and, if coupled, the score."""
    rng = np.random.default_rng(seed)
    depth = np.arange(float(units))
    own, noise = rng.normal(size=(2, units))
    slope = -1.2 * (depth - depth.mean()) / depth.std()
    scores = slope + own
    rates = 1 / (1 + np.exp(-(slope + coupled * 3 * own + (1 - coupled) * noise)))
    return scores, (rng.random((images, units)) < rates).astype(float), depth
