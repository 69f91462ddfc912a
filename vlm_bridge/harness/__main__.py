"""`python -m vlm_bridge.harness` is `lm_eval`, in which the model `skipit` is registered.

The harness has no entry point for models of other packages, so that `lm_eval` alone would not
know it.
"""

from __future__ import annotations

import sys
from importlib import import_module

from estimators.extras import MissingExtra, require
from vlm_bridge.errors import BridgeError, first_line


def main() -> None:
    """Register the model and hand over to the command line of the harness."""
    try:
        require("vlm_bridge.harness", "lm_eval", "harness")
    except MissingExtra as error:
        sys.exit(str(error))
    import_module("vlm_bridge.harness.lm_eval_model")
    try:
        import_module("lm_eval.__main__").cli_evaluate()
    except BridgeError as error:
        print(first_line(error), file=sys.stderr)  # noqa: T201
        sys.exit(2)


if __name__ == "__main__":
    main()
