"""Which answers a plan changes, and how sure it was of each: from these thresholds are chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.evaluate.answers import generated
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.signals import signals_of
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import is_list_of, run_batches, run_key
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import Gate
from vlm_bridge.skip import skipping


@dataclass(frozen=True)
class Sureness:
    """Answers under one plan beside the full model's.

    Attributes:
        changed: (n,) 1.0 where the answer differs, else 0.0.
        signals: (n,) of each answer; larger is surer.
        clusters: the image of each answer.
    """

    changed: NDArray[np.float64]
    signals: NDArray[np.float64]
    clusters: list[str]

    def stands(self, threshold: float) -> NDArray[np.bool_]:
        """(n,) bool: which answers are surer than the threshold."""
        return np.asarray(self.signals > threshold)

    def thresholds(self) -> list[float]:
        """Those that no other beats in both fallback and changed answers: -inf, changed signals.

        >>> sure = Sureness(np.array([0.0, 1.0, 0.0]), np.array([0.1, 0.4, 2.0]), ["a", "b", "c"])
        >>> sure.thresholds()
        [-inf, 0.4]
        """
        return [-math.inf, *np.unique(self.signals[self.changed > 0]).tolist()]


def sureness_of(
    full: FullAnswers, vlm: VLM, gate: Gate, *, batch_size: int, checkpoint: Path | None = None
) -> Sureness:
    """Ask all questions under the plan of a gate, and note its signal; no threshold is used."""

    def work(batch: Batch) -> dict[str, Any]:
        with skipping(vlm, gate.plan):
            made = generated(
                vlm, batch.inputs, max_new_tokens=full.max_new_tokens, names=batch.names
            )
        return {
            "texts": made.texts(vlm),
            "signals": signals_of(vlm, made, gate.signal, gate.over),
        }

    def is_result(result: Any, n: int) -> bool:
        if not isinstance(result, dict) or set(result) != {"texts", "signals"}:
            return False
        return is_list_of(result["texts"], str, n) and is_list_of(result["signals"], float, n)

    settings: Any = {"batch_size": batch_size, "max_new_tokens": full.max_new_tokens}
    settings |= {"plan": gate.plan.hash(), "signal": gate.signal, "over": gate.over}
    results = run_batches(
        vlm,
        full.items,
        work,
        is_result,
        batch_size=batch_size,
        title=gate.plan.describe(vlm.layout.modality),
        checkpoint=checkpoint,
        key=run_key("sureness", vlm, full.items, **settings),
    )
    # `FullAnswers.items` are in the order of the batches.
    texts = [text for _, result in results for text in result["texts"]]
    signals = np.array([signal for _, result in results for signal in result["signals"]])
    gate.passes(signals.tolist())  # refuses NaN
    changed = np.array([float(a != b) for a, b in zip(full.texts, texts, strict=True)])
    return Sureness(changed, signals, [item.cluster for item in full.items])
