"""Harm of every single unit, and the rank of every rule's scores with it, given depth."""

from __future__ import annotations

import numpy as np

from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims.p_values import rank_test
from vlm_bridge.experiments.claims.protocol import OURS, POPULAR, REPORTED
from vlm_bridge.experiments.claims.results import ModeHarm, RuleRank
from vlm_bridge.experiments.claims.subject import Subject
from vlm_bridge.experiments.scoring.truth import intervals
from vlm_bridge.plan.units import unit_place
from vlm_bridge.rules import find_rule


def block_harm(subject: Subject) -> list[float]:
    """Share of answers that each single block changes, the fatal ones among them."""
    return list(subject.ranked.all_changed(subject.units("block")).mean(axis=0))


def measure_harm(subject: Subject, mode: str, rules: bool = True) -> tuple[ModeHarm, list[str]]:
    """Harm of the units of a mode, with every rule that scores them; and why others did not."""
    settings, units = subject.settings, subject.units(mode)
    counted = np.array(subject.counted(mode))
    changed = subject.ranked.all_changed(units)
    low, high = intervals(changed, "disagreement", 0.95)
    found, refused = [], []
    known = (OURS, *([POPULAR[mode]] if mode in POPULAR else []), *REPORTED)
    names = [name for name in known if mode in find_rule(name).modes]
    for name in names if rules else ():
        try:
            scores = subject.scores(name, mode, counted=False)
        except BridgeError as error:
            refused.append(f"{name}, {mode}: {error}")
            continue
        test = rank_test(
            scores[counted],
            changed[:, counted],
            subject.depth(mode),
            samples=settings.samples,
            seed=settings.seed,
        )
        found.append(RuleRank(name, tuple(scores.tolist()), test.estimate, test.rotation_p))
    harm = ModeHarm(
        mode=mode,
        places=tuple(unit_place(unit) for unit in units),
        counted=tuple(counted.tolist()),
        mean=tuple(changed.mean(axis=0).tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        n_images=len(changed),
        rules=tuple(found),
    )
    return harm, refused
