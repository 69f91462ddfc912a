"""`python -m vlm_bridge` is `skipit`, so that `torchrun -m vlm_bridge` can start it.

Where a package of the extra `vlm` is missing, it says so in one line, with exit code 1.
"""

from __future__ import annotations

import sys

try:
    from vlm_bridge.cli import main as main
except ModuleNotFoundError as error:
    missing = (error.name or "").split(".")[0]
    if missing not in {
        *("PIL", "accelerate", "gguf", "huggingface_hub", "jinja2", "matplotlib", "platformdirs"),
        *("rich", "safetensors", "sympy", "tokenizers", "torch", "transformers", "typer"),
    }:
        raise
    sys.exit(f"skipit needs {missing}: pip install 'skipit[vlm]'")

if __name__ == "__main__":
    main()
