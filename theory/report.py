"""Verdicts as a table for people, and as records for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from theory import statements
from theory.statement import EVIDENCE, Verdict

_HEADER = ("id", "evidence", "trials", "worst slack", "holds", "needed", "claim in words")


def record(verdict: Verdict) -> dict[str, Any]:
    """What `--json` prints of a verdict; `Verdict.to_json` has the rest.

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
            {"name": found.name, "counterexample_found": found.counterexample_found}
            for found in verdict.hypotheses
        ],
    }


def table(verdicts: Sequence[Verdict]) -> str:
    """Aligned columns, objections in a part of their own, a summary; no final newline.

    "needed" counts the hypotheses whose counterexample was found.

    Example:
        >>> print(table(statements.verify_all(["S3"], trials=5)).splitlines()[1])
        S3  shannon-lp  5  ...  yes  1/1  what late entry loses
    """
    rows = [_row(verdict) for verdict in verdicts]
    widths = [max(map(len, column)) for column in zip(_HEADER, *rows, strict=True)]
    lines = [_line(_HEADER, widths)]
    for objections in (False, True):
        chosen = [
            _line(row, widths)
            for verdict, row in zip(verdicts, rows, strict=True)
            if verdict.id.startswith("O") == objections
        ]
        if objections and chosen:
            lines += ["", "objections, each shown by an exact example:"]
        lines += chosen
    return "\n".join([*lines, "", summary(verdicts)])


def summary(verdicts: Sequence[Verdict]) -> str:
    """One line: how many hold, on which evidence, in which time.

    Example:
        >>> summary(statements.verify_all(["S3"], trials=5)).split(";")[0]
        '1 of 1 statements hold'
    """
    kinds = [f"{sum(v.evidence == kind for v in verdicts)} {kind}" for kind in EVIDENCE]
    hypotheses = [found for verdict in verdicts for found in verdict.hypotheses]
    needed = sum(found.counterexample_found for found in hypotheses)
    return (
        f"{sum(v.holds for v in verdicts)} of {len(verdicts)} statements hold; "
        f"{needed} of {len(hypotheses)} hypotheses shown to be needed; {', '.join(kinds)}; "
        f"{sum(v.seconds for v in verdicts):.0f} s"
    )


def problems(verdicts: Sequence[Verdict]) -> list[str]:
    """A line for everything that went wrong; empty if nothing did.

    Example:
        >>> problems(statements.verify_all(["S3"], trials=5))
        []
    """
    lines = [f"{v.id}: {failure}" for v in verdicts for failure in v.failures]
    return lines + [
        f"{v.id}: dropping '{found.name}' was not seen to break the claim (slack {found.slack:.3g})"
        for v in verdicts
        for found in v.hypotheses
        if not found.counterexample_found
    ]


def _row(verdict: Verdict) -> tuple[str, ...]:
    needed = sum(found.counterexample_found for found in verdict.hypotheses)
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
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
