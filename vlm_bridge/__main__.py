"""`python -m vlm_bridge` is `skipit`, so that `torchrun -m vlm_bridge` can start it.

Where a package of the extra `vlm` is missing, it says so in one line, with exit code 1.
"""

from __future__ import annotations

import sys

from estimators.extras import MissingExtra
from vlm_bridge.errors import missing_extra


def main() -> None:
    """Run the command line; a command imports what it needs when it is called."""
    try:
        from vlm_bridge.cli import main as run

        run()
    except ModuleNotFoundError as error:
        mended = missing_extra("skipit", error)
        if isinstance(mended, MissingExtra):
            sys.exit(str(mended))
        raise


if __name__ == "__main__":
    main()
