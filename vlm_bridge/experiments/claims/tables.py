"""Tables of one model's confirmation, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vlm_bridge.experiments.claims.results import ModelClaims
from vlm_bridge.figures.markdown import table
from vlm_bridge.figures.numbers import bracketed
from vlm_bridge.plan.skip_plan import SkipPlan


def accuracy_table(found: ModelClaims) -> list[str]:
    """The model beside its baselines and the nulls."""
    one = found.accuracies
    figures = {"model": one.model, "blind": one.blind, "majority": one.majority}
    figures |= {f"model, {null.kind}": null.accuracy for null in found.nulls}
    rows = [[name, bracketed(value), "-" if value is None else value.n] for name, value in
            figures.items()]  # fmt: skip
    note = (
        "*Blind* is the most frequent training answer to the question text, *majority* the most "
        "frequent of all."
    )
    return _table("Accuracy on untouched images", ["", "accuracy", "images"], rows, note)


def certified_table(found: ModelClaims) -> list[str]:
    """The plan, its certificate, its cost in both phases."""
    certified, speed = found.certified, found.speed
    lines = ["### Certified plan", ""]
    if certified is None or speed is None:
        return [*lines, "None: no search of ours certified anything at its share of delta.", ""]
    tested = certified.tested
    lines += [
        f"{tested.plan.describe().capitalize()} ({certified.rule}, {certified.mode}): of all "
        f"plans of ours that are certified together the one that saves most. "
        f"{certified.certificate.sentence()}; {certified.certificate.checked[-1]}. On untouched "
        f"images: changed {bracketed(tested.disagreement, '.3f')}, drop "
        f"{bracketed(tested.drop, '.3f')}.",
        "",
    ]
    rows = [["prefill", f"{speed.prefill.flops_ratio:.2f}", bracketed(speed.prefill.latency_ratio)]]
    if speed.token is not None:
        token = speed.token
        rows.append(["per token", f"{token.flops_ratio:.2f}", bracketed(token.latency_ratio)])
    head = ["", "FLOPs, counted", "latency, measured"]
    memory = f"cache {speed.kv_ratio:.2f}, peak memory {speed.peak_ratio:.2f}"
    note = f"Ratios, on {speed.prefill.device}; {memory}."
    return [*lines, *_table("", head, rows, note)]


def auc_table(found: ModelClaims) -> list[str]:
    """Every rule in every mode: how it ranks, what it certifies."""
    rows = []
    for mode in found.benchmark.modes:
        results = [one for one in found.benchmark.rules if one.score.mode == mode]
        results.sort(key=lambda one: -one.score.auc.value if one.score.auc.value >= 0 else 1.0)
        for one in results:
            score, plan = one.score, one.chosen.plan
            rows.append(
                [
                    mode,
                    score.rule,
                    one.origin,
                    score.requires,
                    bracketed(score.auc),
                    bracketed(score.spearman),
                    f"{score.safe}/{score.harmful}/{score.undetermined}",
                    "none" if plan.is_empty else plan.describe(),
                    bracketed(one.chosen.saving),
                    bracketed(one.chosen.disagreement, ".3f"),
                    bracketed(one.chosen.drop, ".3f"),
                ]
            )
    head = ["mode", "rule", "origin", "requires", "AUC", "Spearman", "safe/harmful/undetermined"]
    head += ["certified plan", "saved", "changed", "drop"]
    note = (
        "AUC: probability that a harmful unit scores above a safe one; undetermined units count in "
        "Spearman alone. Every certificate is a statement of its own. Every depth is a "
        "candidate of every rule, so in modes of depths a certified plan says nothing of the rule."
    )
    return _table("Rules against what skipping does", head, rows, note)


def overlaps_table(found: ModelClaims) -> list[str]:
    """Our sets beside those of the published methods."""
    rows = []
    for one in found.overlaps:
        for peer in one.peers:
            ps = [f"{peer.p_permutation:.3g}", f"{peer.p_rotation:.3g}"]
            figures = [one.size, f"{peer.jaccard:.2f}", f"{peer.expected:.2f}"]
            rows.append([one.mode, one.rule, peer.theirs, *figures, *ps])
        ps = [f"{one.p_permutation:.3g}", f"{one.p_rotation:.3g}"]
        figures = [one.size, f"{one.jaccard:.2f}", f"{one.expected:.2f}"]
        rows.append([one.mode, one.rule, "*mean*", *figures, *ps])
    head = ["mode", "ours", "method", "size", "Jaccard", "by chance", "p permutation", "p rotation"]
    note = (
        "The size is that of our certified plan, at least a quarter of the units, at most half of "
        "them."
    )
    return _table("Coincidence with published methods", head, rows, note)


def controls_table(found: ModelClaims) -> list[str]:
    """Plans of equal size inside and outside the conditions."""
    rows = []
    for one in found.controls:
        for name, plan in (("inside", one.safe), ("outside", one.unsafe)):
            apart = bracketed(one.difference, ".3f") if name == "outside" else ""
            changed, drop = bracketed(plan.disagreement, ".3f"), bracketed(plan.drop, ".3f")
            rows.append([one.mode, one.rule, name, plan.plan.describe(), changed, drop, apart])
    head = ["mode", "rule", "conditions", "plan", "changed", "drop", "outside - inside"]
    return _table("Negative control", head, rows)


def converses_table(found: ModelClaims) -> list[str]:
    """What was looked for, found, and confirmed or not."""
    rows = [
        [
            one.claim,
            one.mode,
            one.rule,
            "-" if one.unit is None else _unit(one.unit),
            "-" if one.place is None else f"{one.place} of {one.n_units}",
            bracketed(one.found, ".3f"),
            bracketed(one.confirmed, ".3f"),
            one.verdict,
        ]
        for one in found.converses
    ]
    head = [
        "converse",
        "mode",
        "ranking",
        "unit",
        "place (1 = safest)",
        "tuning",
        "test",
        "verdict",
    ]
    note = (
        "Outside is the less safe half of a ranking, small distance its nearest quarter. One unit "
        "is found on tuning images and tested once on test images; each end of an interval is a "
        "one-sided bound of 95 %."
    )
    return _table("Converses that the theory refutes", head, rows, note)


def nulls_table(found: ModelClaims) -> list[str]:
    """Rankings and control plans where there is nothing to find."""
    rows = []
    for null in found.nulls:
        for one in null.scores:
            sets = one.sets
            cells = ["-", "-"] if sets is None or one.spearman is None else [
                f"{one.spearman:.2f}", f"{sets.jaccard:.2f} ({sets.expected:.2f}, "
                f"{sets.p_permutation:.2g})",
            ]  # fmt: skip
            rows.append([null.kind, null.n_profiling, one.mode, one.rule, *cells])
    head = ["null", "images", "mode", "rule", "Spearman with the model", "Jaccard (chance, p)"]
    note = (
        "Where a copy with random weights ranks units as the model does, the ranking comes from "
        "the architecture, not from what was learned."
    )
    plans = [
        [null.kind, one.mode, one.rule, bracketed(one.safe), bracketed(one.unsafe), one.safe.n]
        for null in found.nulls
        for one in null.plans
    ]
    lines = _table("Nulls: rankings", head, rows, note)
    changed = ["null", "mode", "rule", "changed, inside", "changed, outside", "images"]
    return lines + _table("Nulls: the plans of the control", changed, plans)


def refused_table(found: ModelClaims) -> list[str]:
    """What could not be measured, and why."""
    said = [f"- {one.rule}, {one.mode}: {one.reason}" for one in found.benchmark.refused]
    said += [
        f"- {one.rule}, {one.mode}, {null.kind}: {one.reason}"
        for null in found.nulls
        for one in null.scores
        if one.reason
    ]
    return ["### Not measured", "", *said, ""] if said else []


def _unit(unit: SkipPlan) -> str:
    return unit.describe().split(" (")[0]


def _table(
    title: str, head: Sequence[str], rows: Iterable[Sequence[Any]], note: str = ""
) -> list[str]:
    rows = list(rows)
    lines = [f"### {title}", ""] if title else []
    if not rows:
        return [*lines, "Nothing was measured in these modes.", ""] if title else []
    lines += [*table(head, rows), ""]
    return [*lines, note, ""] if note else lines
