"""`python -m vlm_bridge` is `skipit`, so that `torchrun -m vlm_bridge` can start it.

Where a package of the extra `vlm` is missing, it says so in one line, with exit code 1.
"""

from __future__ import annotations

import sys
from typing import NoReturn

_OF_THE_EXTRA = {
    *("PIL", "accelerate", "gguf", "huggingface_hub", "jinja2", "matplotlib", "platformdirs"),
    *("rich", "safetensors", "sympy", "tokenizers", "torch", "transformers", "typer"),
}


def _ask_for_the_extra(error: ModuleNotFoundError) -> NoReturn:
    missing = (error.name or "").split(".")[0]
    if missing not in _OF_THE_EXTRA:
        raise error
    sys.exit(f"skipit needs {missing}: pip install 'skipit[vlm]'")


try:
    from vlm_bridge.cli import main as run
except ModuleNotFoundError as error:
    _ask_for_the_extra(error)


def main() -> None:
    """Run the command line; a command imports what it needs when it is called."""
    try:
        run()
    except ModuleNotFoundError as error:
        _ask_for_the_extra(error)


if __name__ == "__main__":
    main()
