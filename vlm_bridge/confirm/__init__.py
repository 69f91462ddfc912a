"""What a rule predicts, put beside what an experiment finds."""

from __future__ import annotations

from vlm_bridge.confirm.coincidence import Coincidence as Coincidence
from vlm_bridge.confirm.coincidence import coincidence as coincidence
