"""The command line `python -m theory`: verify statements, prove inequalities, write the docs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from theory.command import run_verify
from theory.docs import render
from theory.shannon import prove

_VERIFY = """Check statements again: proofs, witnesses, counterexamples, random instances and an
optimiser that tries to break them. Exit code 1 on any violation."""
_PROVE = """Prove a Shannon-type inequality for all distributions, with an exact certificate, or
show a point of the entropy cone on which it fails. Exit code 1 if it is not provable."""


def parser() -> argparse.ArgumentParser:
    """The arguments, for tests and help."""
    top = argparse.ArgumentParser(prog="python -m theory", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    verify = commands.add_parser(
        "verify",
        help="check statements again",
        description=_VERIFY,
        epilog="example: python -m theory verify S1 S9 --trials 10000",
    )
    verify.add_argument("ids", nargs="*", metavar="ID", help="statements (default: all)")
    verify.add_argument("--trials", type=int, default=1000, help="instances each (default: 1000)")
    verify.add_argument("--seed", type=int, default=0, help="fixes the instances (default: 0)")
    verify.add_argument("--json", action="store_true", help="a list of objects instead of a table")
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
        "docs", help="write the registry as Markdown", description="Write docs/statements.md."
    )
    docs.add_argument("--out", type=Path, default=Path("docs/statements.md"), help="file to write")
    docs.add_argument("--check", action="store_true", help="write nothing; exit code 1 if stale")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; bad input is one message and code 2."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "verify":
            return run_verify(
                options.ids, trials=options.trials, seed=options.seed, as_json=options.json
            )
        if options.command == "prove":
            proof = prove(options.claim, options.given)
            sys.stdout.write(f"{proof}\n")
            return 0 if proof else 1
        return _docs(options.out, check=options.check)
    except ValueError as error:
        sys.stderr.write(f"theory: {error}\n")
        return 2


def _docs(out: Path, *, check: bool) -> int:
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
