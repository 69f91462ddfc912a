"""The registry as one Markdown page, `docs/statements.md`."""

from __future__ import annotations

from collections.abc import Iterator

from theory import statements
from theory.statement import EVIDENCE, Statement

_INTRODUCTION = """# Statements

Generated from the registry by `python -m theory docs`; do not edit. `python -m theory verify`
checks all of it again.

Notation: `Y` the answer, `k` classes; `H_l = [V_l ; T_l]` the full state entering layer `l`
(0-based), its vision and its text slice; `d` the cosine distance, in [0, 2]; `I`, `H` in nats;
`R*` the Bayes risk; `VAR` the attention mass of text queries on visual keys; `U_V, U_T, R, S` the
unique, redundant and synergistic parts of `I(Y; V,T)`.

Evidence: **symbolic**, SymPy proves it for the family named; **shannon-lp**, proved for all
distributions by a linear program over the entropy cone, its certificate re-checked in exact
arithmetic; **exhaustive**, every case of the domain named; **searched**, random instances and an
optimiser that tries to break it. Where parts differ, the weakest is named.

A claim holds iff its slack is >= 0 (up to rounding). The witness is the instance that comes
closest to breaking it. Each hypothesis comes with a counterexample: an instance that meets all
others and on which the claim fails. What only makes the terms defined is in the setting.
"""


def render() -> str:
    """The page, with the slack of every witness and counterexample computed now.

    Example:
        >>> render().splitlines()[0]
        '# Statements'
    """
    chosen = [statements.get(name) for name in statements.ids()]
    counts = ", ".join(f"{sum(s.evidence == kind for s in chosen)} {kind}" for kind in EVIDENCE)
    lines = [_INTRODUCTION, f"{len(chosen)} statements: {counts}.", ""]
    lines += ["| id | claim in words | evidence |", "|---|---|---|"]
    lines += [f"| [{s.id}](#{_anchor(s)}) | {s.title} | {s.evidence} |" for s in chosen]
    for statement in chosen:
        lines += ["", *_section(statement)]
    return "\n".join(lines) + "\n"


def _anchor(statement: Statement) -> str:
    """The anchor GitHub gives the heading of a statement."""
    heading = f"{statement.id} {statement.title}".lower()
    kept = "".join(letter for letter in heading if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def _section(statement: Statement) -> Iterator[str]:
    yield f"## {statement.id}: {statement.title}"
    yield ""
    yield "```text"
    yield statement.claim
    yield "```"
    yield ""
    yield f"- Setting: {statement.setting}."
    yield f"- Evidence: {statement.evidence}. Domain: {statement.domain}."
    if statement.proof is not None and statement.evidence in ("symbolic", "shannon-lp"):
        yield f"- Proof, run again at each check: `{statement.proof().detail}`."
    if statement.symbolic is not None:
        yield f"- In SymPy: `{statement.symbolic()}`."
    yield f"- Slack of the witness: {_number(statement.slack(statement.witness()))}."
    yield f"- Source: {statement.source}."
    for hypothesis in statement.hypotheses:
        found = hypothesis.counterexample()
        yield (
            f"- Hypothesis, *{hypothesis.name}*: {hypothesis.text}. Dropped: {found.sentence} "
            + (f"(slack {_number(statement.slack(found.instance))}).")
        )
    if not statement.hypotheses:
        yield "- Hypotheses: none."
    for superfluous in statement.superfluous:
        yield f"- Superfluous: {superfluous}"
    for note in statement.notes:
        yield f"- Note: {note}"


def _number(slack: float) -> str:
    """Three digits; what is below a millionth is rounding."""
    return "0" if abs(slack) < 1e-6 else f"{slack:.3g}"
