"""Formats verdicts as a text table and as JSON records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from theory import statements
from theory.statement import EVIDENCE, Verdict

_HEADER = ("id", "evidence", "trials", "worst slack", "holds", "needed", "claim in words")


def record(verdict: Verdict) -> dict[str, Any]:
    """Fields of a verdict that `--json` prints; `Verdict.to_json` has all fields.

    Example:
        >>> sorted(record(statements.verify("S3", trials=5)))
        ['domain', 'evidence', 'holds', 'hypotheses', 'id', 'trials', 'worst_slack']
    """
    return {
        "id": verdict.id,
        "evidence": verdict.evidence,
        "domain": verdict.domain,
        "trials": verdict.trials,
        "worst_slack": verdict.to_json()["worst_slack"],
        "holds": verdict.holds,
        "hypotheses": [
            {"name": h.name, "counterexample_found": h.counterexample_found}
            for h in verdict.hypotheses
        ],
    }


def table(verdicts: Sequence[Verdict]) -> str:
    """Aligned columns with the objections in a separate section, then a summary line.

    The column "needed" counts the hypotheses shown to be necessary. No final newline.

    Example:
        >>> print(table(statements.verify_all(["S3"], trials=5)).splitlines()[1])
        S3  shannon-lp  5  ...  yes  1/1  information lost by late entry
    """
    rows = [_row(verdict) for verdict in verdicts]
    widths = [max(map(len, column)) for column in zip(_HEADER, *rows, strict=True)]
    lines = [_line(_HEADER, widths)]
    for objections in (False, True):
        section = [
            _line(row, widths)
            for verdict, row in zip(verdicts, rows, strict=True)
            if verdict.id.startswith("O") == objections
        ]
        if objections and section:
            lines += ["", "objections, each shown by an exact example:"]
        lines += section
    return "\n".join([*lines, "", summary(verdicts)])


def summary(verdicts: Sequence[Verdict]) -> str:
    """Numbers of statements, hypotheses and kinds of evidence, and the total time, in one line.

    Example:
        >>> summary(statements.verify_all(["S3"], trials=5)).split(";")[0]
        '1 of 1 statements hold'
    """
    kinds = [f"{sum(v.evidence == kind for v in verdicts)} {kind}" for kind in EVIDENCE]
    hypotheses = [hypothesis for verdict in verdicts for hypothesis in verdict.hypotheses]
    needed = sum(hypothesis.counterexample_found for hypothesis in hypotheses)
    return (
        f"{sum(v.holds for v in verdicts)} of {len(verdicts)} statements hold; "
        f"{needed} of {len(hypotheses)} hypotheses shown to be needed; {', '.join(kinds)}; "
        f"{sum(v.seconds for v in verdicts):.0f} s"
    )


def problems(verdicts: Sequence[Verdict]) -> list[str]:
    """One line per failed check.

    Example:
        >>> problems(statements.verify_all(["S3"], trials=5))
        []
    """
    lines = [f"{v.id}: {failure}" for v in verdicts for failure in v.failures]
    return lines + [
        f"{v.id}: the counterexample to '{h.name}' does not show that the hypothesis is necessary "
        f"(slack {h.slack:.3g})"
        for v in verdicts
        for h in v.hypotheses
        if not h.counterexample_found
    ]


def _row(verdict: Verdict) -> tuple[str, ...]:
    """Cells of the table for one verdict."""
    needed = sum(hypothesis.counterexample_found for hypothesis in verdict.hypotheses)
    return (
        verdict.id,
        verdict.evidence,
        str(verdict.trials),
        f"{verdict.worst_slack + 0.0:.1e}",
        "yes" if verdict.holds else "NO",
        f"{needed}/{len(verdict.hypotheses)}" if verdict.hypotheses else "-",
        statements.get(verdict.id).title if verdict.id in statements.ids() else "",
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells padded to the widths of the columns."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
