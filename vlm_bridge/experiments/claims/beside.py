"""What stands beside the verdicts on the page: stability, behaviour, a promise that can fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlm_bridge.experiments.claims.behaviour import Behaviour, Manner
from vlm_bridge.experiments.claims.results import ModelClaims
from vlm_bridge.figures.blocks import Block
from vlm_bridge.figures.numbers import bracketed


def beside(models: Sequence[ModelClaims]) -> Iterator[Block]:
    """Section 7 of the protocol, of all runs."""
    stable = [
        (
            run.model,
            each.mode,
            each.other,
            bracketed(each.jaccard),
            f"{each.chance:.2f}",
            f"{each.size} of {each.n_units}",
        )
        for run in models
        for each in run.stability
    ]
    if stable:
        yield Block(text="Safest quarter from other profiling questions (Jaccard index):")
        columns = ("run", "mode", "other", "Jaccard", "by chance", "size")
        yield Block(head=columns, rows=tuple(stable))
    manners = [
        (
            run.model,
            name,
            bracketed(manner.calibration, ".3f"),
            bracketed(manner.confidence, ".3f"),
            bracketed(manner.false_yes, ".3f"),
        )
        for run in models
        if run.behaviour is not None
        for name, manner in _manners(run.behaviour)
    ]
    if manners:
        yield Block(
            text="How the full model answers, the skipped one (our plan of the tests), and the "
            "full one under DeLask, which computes every layer:"
        )
        head = ("run", "model", "calibration error", "confidence", 'false "yes"')
        yield Block(head=head, rows=tuple(manners))
    promises = tuple(_promises(models))
    if promises:
        yield Block(text="A promise that can fail, over resampled certification images:")
        yield Block(points=promises)
    if not stable and not manners and not promises:
        yield Block(text="Not measured.")


def _manners(behaviour: Behaviour) -> Iterator[tuple[str, Manner]]:
    yield "full", behaviour.full
    yield "skipped", behaviour.skipped
    if behaviour.delask is not None:
        yield "DeLask", behaviour.delask


def _promises(models: Sequence[ModelClaims]) -> Iterator[str]:
    for run in models:
        found = run.promise
        if found is None:
            continue
        if found.plan is None or found.check is None:
            yield f"{run.model}: none of {found.tried} plans lies just above epsilon"
            continue
        check = found.check
        word = "kept" if found.kept else "broken"
        yield (
            f"{run.model}: {found.plan.describe()} changes {found.rate:.3f} of the answers; "
            f"certified wrongly in {check.wrong} of {check.resamples} resamplings, where "
            f"{check.delta:.0%} is allowed (error {check.error:.1%}): {word}"
        )
