"""Tables of one model's evidence, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlm_bridge.experiments.claims.coincidence import Coincidence
from vlm_bridge.experiments.claims.overlap import Overlap
from vlm_bridge.experiments.claims.results import ModelClaims
from vlm_bridge.figures.markdown import table
from vlm_bridge.figures.numbers import bracketed


def accuracy(claims: ModelClaims) -> list[str]:
    """Accuracy of the model, its baselines and its nulls."""
    accuracies = claims.accuracies
    names = ("model", "blind", "majority")
    rows = [(name, getattr(accuracies, name)) for name in names]
    rows += [(f"model, {null.kind}", null.accuracy) for null in claims.nulls]
    return _section(
        "Accuracy on test images",
        ["", "accuracy", "images"],
        [[name, bracketed(value), "-" if value is None else value.n] for name, value in rows],
        "*Blind* is the most frequent training answer to the question text, *majority* the most "
        "frequent of all.",
    )


def certified(claims: ModelClaims) -> list[str]:
    """The certified plan, its certificate, and its cost in both phases."""
    certified, cost = claims.certified, claims.cost
    lines = ["### Certified plan", ""]
    if certified is None or cost is None:
        return [*lines, "None: no search of ours certified anything at its share of delta.", ""]
    tested, certificate = certified.tested, certified.certificate
    text = (
        f"{tested.plan.describe().capitalize()} ({certified.rule}, {certified.mode}): the plan "
        f"that saves most among all plans of ours that are certified together. "
        f"{certificate.sentence()}; {certificate.checked[-1]}. On test images: changed "
        f"{bracketed(tested.disagreement, '.3f')}, drop {bracketed(tested.drop, '.3f')}."
    )
    rows = [
        [name, f"{phase.flops_ratio:.2f}", bracketed(phase.latency_ratio)]
        for name, phase in (("prefill", cost.prefill), ("per token", cost.decode))
        if phase is not None
    ]
    memory = f"cache {cost.kv_ratio:.2f}, peak memory {cost.peak_ratio:.2f}"
    note = f"Ratios skipped/full, on {cost.device}; {memory}."
    head = ["", "FLOPs, counted", "latency, measured"]
    return [*lines, text, "", *table(head, rows), "", note, ""]


def rules(claims: ModelClaims) -> list[str]:
    """Every rule in every mode: its ranking and its certified plan."""
    rows = []
    for mode in claims.benchmark.modes:
        results = claims.benchmark.rules_in(mode)
        results.sort(key=lambda r: -r.score.auc.value if r.score.auc.value >= 0 else 1.0)
        for result in results:
            score, chosen = result.score, result.chosen
            ranking = [bracketed(each) for each in (score.auc, score.spearman, score.partial)]
            counts = f"{score.safe}/{score.harmful}/{score.undetermined}"
            plan = "none" if chosen.plan.is_empty else chosen.plan.describe()
            effects = [bracketed(each, ".3f") for each in (chosen.disagreement, chosen.drop)]
            cells = [mode, score.rule, result.origin, score.requires, *ranking, counts, plan]
            drawn = f"{chosen.p_value:.2g}" if chosen.random else "-"
            deepest = "-" if chosen.deepest is None else f"{chosen.deepest:.3f}"
            rows.append([*cells, bracketed(chosen.saving), *effects, drawn, deepest])
    head = ["mode", "rule", "origin", "requires", "AUC", "Spearman", "given depth"]
    return _section(
        "Rules against measured disagreement of first answer tokens",
        [
            *(*head, "safe/harmful/undetermined", "certified plan", "saved", "changed", "drop"),
            *("p of a random plan", "deepest: changed"),
        ],
        rows,
        "AUC: probability that a harmful unit scores above a safe one; undetermined units count in "
        "rank correlations alone. A star: not reliable. Given depth: the partial rank correlation. "
        "p: of as good a plan, if drawn as random plans of its size are; the last column is "
        "that plan of its size that skips the last layers. Certificates are not corrected for "
        "the number of rules. In modes of depths every depth is a candidate of every rule, so a "
        "certified plan does not depend on the rule.",
    )


def overlaps(claims: ModelClaims) -> list[str]:
    """Our sets of units against those of the published methods."""
    rows = []
    for each in claims.overlaps:
        pairs: dict[str, Coincidence | Overlap] = {peer.theirs: peer for peer in each.peers}
        for name, pair in {**pairs, "*mean*": each}.items():
            sets = [f"{pair.jaccard:.2f}", f"{pair.expected:.2f}"]
            p_values = [f"{pair.p_permutation:.3g}", f"{pair.p_rotation:.3g}"]
            rows.append([each.mode, each.rule, name, each.size, *sets, *p_values])
    return _section(
        "Coincidence with published methods",
        ["mode", "ours", "method", "size", "Jaccard", "by chance", "p permutation", "p rotation"],
        rows,
        "The size is that of our certified plan, at least a quarter of the units, at most half of "
        "them.",
    )


def controls(claims: ModelClaims) -> list[str]:
    """Plans of equal size inside and outside the conditions."""
    rows = []
    for each in claims.controls:
        difference = bracketed(each.difference, ".3f")
        sides = (("inside", each.safe, ""), ("outside", each.unsafe, difference))
        for name, compared, shown in sides:
            effects = [bracketed(e, ".3f") for e in (compared.disagreement, compared.drop)]
            rows.append([each.mode, each.rule, name, compared.plan.describe(), *effects, shown])
    head = ["mode", "rule", "conditions", "plan", "changed", "drop", "outside - inside"]
    return _section("Negative control", head, rows)


def converses(claims: ModelClaims) -> list[str]:
    """Counterexamples from tuning images, and their confirmation on test images."""
    rows = []
    for each in claims.converses:
        unit = "-" if each.unit is None else each.unit.describe().split(" (")[0]
        place = "-" if each.place is None else f"{each.place} of {each.n_units}"
        rates = [bracketed(rate, ".3f") for rate in (each.tuning, each.test)]
        rows.append([each.claim, each.mode, each.rule, unit, place, *rates, each.verdict])
    head = ["converse", "mode", "ranking", "unit", "place (1 = safest)", "tuning", "test"]
    return _section(
        "Converses that the theory refutes",
        [*head, "verdict"],
        rows,
        "Outside is the half of a ranking with the highest scores, small distance the quarter with "
        "the lowest. One unit is selected on tuning images and tested once on test images; each "
        "end of an interval is a one-sided bound of 95 %.",
    )


def nulls(claims: ModelClaims) -> list[str]:
    """Rankings and control plans on the nulls."""
    scores, plans = [], []
    for null in claims.nulls:
        for score in null.scores:
            cells = ["-", "-"]
            if (sets := score.sets) is not None and score.spearman is not None:
                chance = f"({sets.expected:.2f}, {sets.p_permutation:.2g})"
                cells = [f"{score.spearman:.2f}", f"{sets.jaccard:.2f} {chance}"]
            scores.append([null.kind, null.n_profiling, score.mode, score.rule, *cells])
        for control in null.controls:
            inside, outside = control.safe.disagreement, control.unsafe.disagreement
            cells = [bracketed(inside), bracketed(outside), str(inside.n)]
            plans.append([null.kind, control.mode, control.rule, *cells])
    head = ["null", "images", "mode", "rule", "Spearman with the model", "Jaccard (chance, p)"]
    note = (
        "If a copy with random weights ranks units as the model does, the ranking comes from "
        "the architecture, not from training."
    )
    changed = ["null", "mode", "rule", "changed, inside", "changed, outside", "images"]
    return [
        *_section("Nulls: rankings", head, scores, note),
        *_section("Nulls: the plans of the control", changed, plans),
    ]


def refused(claims: ModelClaims) -> list[str]:
    """Measurements that failed, with their reasons."""
    refusals = [f"- {r.rule}, {r.mode}: {r.reason}" for r in claims.benchmark.refused]
    for null in claims.nulls:
        failed = [score for score in null.scores if score.reason]
        refusals += [f"- {s.rule}, {s.mode}, {null.kind}: {s.reason}" for s in failed]
    return ["### Not measured", "", *refusals, ""] if refusals else []


def _section(
    title: str, head: Sequence[str], rows: Sequence[Sequence[Any]], note: str = ""
) -> list[str]:
    if not rows:
        return [f"### {title}", "", "Nothing was measured in these modes.", ""]
    lines = [f"### {title}", "", *table(head, rows), ""]
    return [*lines, note, ""] if note else lines
