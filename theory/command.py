"""The command behind `python -m theory verify` and `skipit verify`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from theory import statements
from theory.report import problems, record, table
from theory.statement import Statement

_TO_LINE_START = "\r\x1b[K"


def run_verify(
    names: Sequence[str] = (), *, trials: int = 1000, seed: int = 0, as_json: bool = False
) -> int:
    """Check statements and print a table or JSON; failures also go to standard error.

    Progress is shown on standard error if it is a terminal.

    Args:
        names: ids of statements; all statements if empty.
        trials: number of instances per statement, at least 1.
        seed: seed of the instances.
        as_json: print a list of records instead of the table.

    Returns:
        Exit code: 1 if a claim, proof, witness or counterexample fails, otherwise 0.

    Raises:
        ValueError: unknown statement, or trials below 1.

    Example:
        >>> run_verify(["S3"], trials=5)
        id  evidence    trials  worst slack  holds  needed  claim in words
        S3  shannon-lp  5       ...  yes    1/1     information lost by late entry
        <BLANKLINE>
        1 of 1 statements hold; 1 of 1 hypotheses shown to be needed; ...
        0
    """
    ids = list(names) or list(statements.ids())
    progress = _Progress(len(ids))
    verdicts = statements.verify_all(ids, trials=trials, seed=seed, before=progress)
    progress.clear()
    if as_json:
        sys.stdout.write(json.dumps([record(v) for v in verdicts], indent=2, allow_nan=False))
    else:
        sys.stdout.write(table(verdicts))
    sys.stdout.write("\n")
    failures = problems(verdicts)
    for line in failures:
        sys.stderr.write(f"FAILED {line}\n")
    return 1 if failures else 0


class _Progress:
    """Prints the statement being checked in one line on standard error."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.shown = sys.stderr.isatty()

    def __call__(self, statement: Statement) -> None:
        self.done += 1
        if self.shown:
            line = f"[{self.done}/{self.total}] {statement.id} {statement.title}"
            sys.stderr.write(f"{_TO_LINE_START}{line[:79]}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self.shown:
            sys.stderr.write(_TO_LINE_START)
