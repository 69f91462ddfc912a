"""Command line `python -m theory`: verify statements, prove inequalities, write the docs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from theory.command import run_verify
from theory.docs import render
from theory.shannon import prove

_VERIFY = """Check the proofs, witnesses and counterexamples of statements, check random instances,
and let an optimiser search for violations. Exit code 1 if any check fails."""
_PROVE = """Prove a Shannon-type inequality for all distributions, with an exact certificate, or
give a point that excludes such a proof; up to three variables it refutes the claim. Exit code 1 if
it is not provable."""


def parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    top = argparse.ArgumentParser(prog="python -m theory", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    verify = commands.add_parser(
        "verify",
        help="check statements",
        description=_VERIFY,
        epilog="example: python -m theory verify S1 S9 --trials 10000",
    )
    verify.add_argument("ids", nargs="*", metavar="ID", help="statements (default: all)")
    verify.add_argument(
        "--trials", type=int, default=1000, help="instances of each (default: 1000)"
    )
    verify.add_argument("--seed", type=int, default=0, help="seed of the instances (default: 0)")
    verify.add_argument("--json", action="store_true", help="print JSON instead of a table")
    proving = commands.add_parser(
        "prove",
        help="prove an inequality between entropies",
        description=_PROVE,
        epilog='example: python -m theory prove "I(X;Z) <= I(X;Y)" --given "X->Y->Z"',
    )
    proving.add_argument("claim", help='such as "I(X;Z) <= I(X;Y)"')
    proving.add_argument(
        "--given",
        action="append",
        default=[],
        help='"X->Y->Z", "Z=f(X,Y)", "X _|_ Y | Z" or "I(X;Y) = 0"; repeatable',
    )
    docs = commands.add_parser(
        "docs", help="write all statements to Markdown", description="Write docs/statements.md."
    )
    docs.add_argument("--out", type=Path, default=Path("docs/statements.md"), help="file to write")
    docs.add_argument("--check", action="store_true", help="only check; exit code 1 if stale")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    It is 2, with a message of one line, on bad input and where a claim stays undecided.
    """
    options = parser().parse_args(arguments)
    try:
        if options.command == "verify":
            return run_verify(
                options.ids, trials=options.trials, seed=options.seed, as_json=options.json
            )
        if options.command == "prove":
            proof = prove(options.claim, given=options.given)
            sys.stdout.write(f"{proof}\n")
            return 0 if proof else 1
        return _docs(options.out, check=options.check)
    except ArithmeticError as error:
        sys.stderr.write(f"theory: undecided: {error}\n")
        return 2
    except ValueError as error:
        sys.stderr.write(f"theory: {error}\n")
        return 2


def _docs(out: Path, *, check: bool) -> int:
    """Write the page, or check that it is up to date."""
    page = render()
    if not check:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8")
    elif not out.is_file() or out.read_text(encoding="utf-8") != page:
        sys.stderr.write(f"{out} is stale; run: python -m theory docs\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
