"""`python -m vlm_bridge` is `skipit`, so that `torchrun -m vlm_bridge` can start it."""

from __future__ import annotations

from vlm_bridge.cli import main

if __name__ == "__main__":
    main()
