"""The page of the protocol as sections, in plain words and by machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vlm_bridge.experiments.claims.beside import beside
from vlm_bridge.experiments.claims.protocol import ALPHA, CLAUSES, LEVEL, REPORTED, Clause
from vlm_bridge.experiments.claims.results import ClaimsResult, ModelClaims, PlanResult, TestResult
from vlm_bridge.experiments.claims.settings import ClaimsSettings
from vlm_bridge.experiments.claims.verdicts import (
    REFUTED,
    SUPPORTED,
    Overall,
    Verdict,
    judge,
    overall,
)
from vlm_bridge.figures.blocks import Block
from vlm_bridge.figures.numbers import bracketed

_ALONE = "No run entered the verdicts, so nothing is supported and nothing is refuted."


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: its address in the page, and the name of its figure.
        heading: its title.
        blocks: its text and tables.
        clause: the clause of its forest plot; None without one.
        run: the run of its heatmap; None without one.
        detail: whether it is on the browsable page alone.
    """

    key: str
    heading: str
    blocks: tuple[Block, ...]
    clause: Clause | None = None
    run: ModelClaims | None = None
    detail: bool = False


def lead(verdicts: Sequence[Verdict], over: Sequence[Overall]) -> str:
    """The first paragraph: what is refuted, what is supported, and how much is undecided."""
    if not verdicts:
        return _ALONE
    models = len({each.model for each in verdicts})

    def named(verdict: str) -> str:
        chosen = [each for each in over if each.verdict == verdict]
        return "; ".join(f"{e.clause} ({CLAUSES[e.clause].claim}; {e.reason})" for e in chosen)

    refuted, supported = named(REFUTED), named(SUPPORTED)
    undecided = [each.clause for each in over if each.verdict not in (REFUTED, SUPPORTED)]
    said = f"Refuted: {refuted}." if refuted else "Nothing is refuted."
    said += f" Supported: {supported}." if supported else " Nothing is supported."
    alone = [e for e in verdicts if e.verdict == REFUTED and CLAUSES[e.clause].id in undecided]
    if alone:
        pairs = ", ".join(f"{each.clause} in {each.model}" for each in alone)
        said += f" Refuted in single models: {pairs}."
    return (
        f"{said} Undecided: {', '.join(undecided) or 'none'}. "
        f"An undecided clause is neither shown nor refuted ({models} "
        f"model{'s' * (models != 1)}, Holm at {ALPHA:g} over all tests, half for each direction)."
    )


def sections_of(result: ClaimsResult) -> list[Section]:
    """All sections after the first paragraph.

    Raises:
        BridgeError: results of different protocols, or one run twice.
    """
    verdicts = judge(result.models)
    over = overall(verdicts)
    return [
        Section("verdicts", "Verdicts", tuple(_summary(result, verdicts, over))),
        *(
            Section(
                each.clause.replace("/", "-"),
                f"{each.clause}: {CLAUSES[each.clause].claim}",
                tuple(_clause(result, verdicts, each)),
                clause=CLAUSES[each.clause],
            )
            for each in over
        ),
        Section("models", "Models", tuple(_models(result.models))),
        *(
            Section(f"harm-{at}", f"Harm in {run.name} ({run.model})", (), run=run)
            for at, run in enumerate(result.models)
        ),
        Section("plans", "Plans", tuple(_plans(result.models))),
        Section("beside", "Beside the verdicts", tuple(beside(result.models))),
        *(_exploration(run, at) for at, run in enumerate(result.models)),
    ]


def _summary(
    result: ClaimsResult, verdicts: Sequence[Verdict], over: Sequence[Overall]
) -> Iterator[Block]:
    run = result.models[0]
    yield Block(
        text=f"The protocol is docs/protocol.md at commit {run.protocol[:12]}. Its amendments, if "
        "any, are at its end."
    )
    if run.unregistered:
        yield Block(
            text="These runs do not have the registered settings, so that they confirm nothing: "
            f"{'; '.join(run.unregistered)}."
        )
    models = list(dict.fromkeys(each.model for each in verdicts))
    by_pair = {(each.clause, each.model): each.verdict for each in verdicts}
    rows = [
        (
            each.clause,
            each.verdict,
            each.without_shuffled,
            *(by_pair.get((each.clause, m), "-") for m in models),
        )
        for each in over
    ]
    head = ("clause", "over models", "without the point on shuffled images", *models)
    yield Block(head=head, rows=tuple(rows))


def _clause(result: ClaimsResult, verdicts: Sequence[Verdict], over: Overall) -> Iterator[Block]:
    own = [each for each in verdicts if each.clause == over.clause]
    if not own:
        yield Block(text="No model that entered could be tested.")
        return
    yield Block(text=f"In plain words: that {CLAUSES[over.clause].claim} is {over.verdict}: "
                f"{over.reason}.")  # fmt: skip
    rows = [
        (
            each.model,
            "; ".join(_effects(result.models, each)),
            f"{each.adjusted:.2g} ({each.p:.2g})",
            f"{each.adjusted_opposite:.2g}",
            "; ".join(_rotations(result.models, each)) or "-",
            each.verdict,
            each.without_shuffled,
            "; ".join(each.reasons),
        )
        for each in own
    ]
    effect = CLAUSES[over.clause].effect
    head = (
        *("model", effect, "p (uncorrected)", "p, opposite", "p, rotation", "verdict"),
        *("without shuffled images", "because"),
    )
    yield Block(head=head, rows=tuple(rows))


def _results(models: Sequence[ModelClaims], verdict: Verdict) -> list[TestResult]:
    return [
        result
        for run in models
        for result in run.tests
        if run.name == verdict.model and result.id == verdict.clause
    ]


def _effects(models: Sequence[ModelClaims], verdict: Verdict) -> list[str]:
    found = _results(models, verdict)
    return [f"{bracketed(r.effect)} (n {r.effect.n})" if r.effect else "-" for r in found]


def _rotations(models: Sequence[ModelClaims], verdict: Verdict) -> list[str]:
    found = _results(models, verdict)
    return [f"{r.rotation_p:.2g}" for r in found if r.rotation_p is not None]


def _models(models: Sequence[ModelClaims]) -> Iterator[Block]:
    rows = [
        (
            run.name,
            run.model,
            str(run.n_layers),
            run.data,
            ", ".join(f"{name} {count}" for name, count in run.counts.items()),
            "enters" if run.entry.enters else "left out",
            run.entry.reason,
        )
        for run in models
    ]
    head = ("model", "run", "layers", "data", "units", "verdicts", "because")
    yield Block(head=head, rows=tuple(rows))
    sources = tuple(dict.fromkeys(line for run in models for line in run.sources))
    if sources:
        yield Block(points=sources)


def _plans(models: Sequence[ModelClaims]) -> Iterator[Block]:
    rows = []
    for run in models:
        for each in run.plans:
            if each.changed is not None:
                rows.append((run.model, each.role, *_plan_cells(run, each)))
    if not rows:
        yield Block(text="Nothing was certified.")
        return
    level = ClaimsSettings(**{k: models[0].settings[k] for k in _LEVEL if k in models[0].settings})
    yield Block(
        text=f"Share of answers changed, with its {LEVEL:.0%} interval; a star: an interval that "
        f"is not reliable. Each certified plan changes at most epsilon {level.epsilon:g} with "
        f"probability {1 - level.delta:g}. Random: the mean of so many (in brackets) other plans "
        "of equal size; deepest: the deepest plan of that size."
    )
    head = (
        *("run", "role", "plan", "certified", "on certification", "on test", "random"),
        *("deepest", "least safe", "latency"),
    )
    yield Block(head=head, rows=tuple(rows))


_LEVEL = ("epsilon", "delta")


def _plan_cells(run: ModelClaims, each: PlanResult) -> Iterator[str]:
    yield each.plan.describe()
    held = each.search is not None and each.search.certificate is not None
    yield "yes" if held else "no" if each.search is not None else "-"
    yield bracketed(each.certified, ".3f")
    yield bracketed(each.changed, ".3f")
    n = len(each.random)
    yield f"{sum(each.random) / n:.3f} ({n})" if n else "-"
    yield bracketed(each.deepest, ".3f")
    yield bracketed(each.least_safe, ".3f")
    timed = run.latency
    same = timed is not None and timed.plan.hash() == each.plan.hash()
    yield bracketed(timed.prefill.latency_ratio) if timed is not None and same else "-"


def _exploration(run: ModelClaims, at: int) -> Section:
    rows = [
        (harm.mode, rank.rule, bracketed(rank.given_depth), f"{rank.rotation_p:.2g}")
        for harm in run.harm
        for rank in harm.rules
    ]
    blocks = [
        Block(
            text=f"Rank correlation with harm given depth, of every rule. {', '.join(REPORTED)} "
            "enter no test. Exploration: nothing here counts for a verdict."
        )
    ]
    if rows:
        head = ("mode", "rule", "given depth", "p, rotation")
        blocks.append(Block(head=head, rows=tuple(rows)))
    if run.refused:
        blocks.append(Block(points=run.refused))
    heading = f"Exploration: {run.name} ({run.model})"
    return Section(f"exploration-{at}", heading, tuple(blocks), detail=True)
