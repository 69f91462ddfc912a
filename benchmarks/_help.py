"""The parser of a benchmark's options."""

from __future__ import annotations

import argparse


def parser(name: str, doc: str) -> argparse.ArgumentParser:
    """A parser that shows the docstring of a benchmark as it is written."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
