"""`python -m vlm_bridge` is `skipit`, so that `torchrun -m vlm_bridge` can start it.

Where a package of an extra is missing, it says so in one line, with exit code 1.
"""

from __future__ import annotations

import sys
from importlib import import_module

from estimators.extras import MissingExtra
from vlm_bridge.errors import missing_extra


def main() -> None:
    """Run the command line; it and each command import what they need when they are called."""
    try:
        import_module("vlm_bridge.cli").main()
    except ModuleNotFoundError as error:
        mended = missing_extra("skipit", error)
        if not isinstance(mended, MissingExtra):
            raise
        sys.exit(str(mended))


if __name__ == "__main__":
    main()
