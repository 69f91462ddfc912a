"""How much the answer feels of what a skip takes away: all units from two backward passes.

The margin m is that between the two likeliest answers of a question. For each unit, two numbers:

    bound    sum over places and tokens of |dm/dh_t| |d_t|     S6, with the slope at every token in
                                                               place of a Lipschitz constant
    change   sum over places of <dm/dh, d>, with norms held (`margin.py`)

with d what the skip changes in the residual stream, and where it does:

    freeze l        - F_l on vision tokens, behind layer l
    block l         - F_l on all tokens, behind layer l
    early exit b    what text loses in each layer j >= b where it sees no vision keys (S8, exact
                    for the layer), behind layer j
    late entry a    minus all updates of vision before a, for vision enters as it is embedded, and
                    what text loses in layers j < a: all of it behind layer a - 1 in `bound`, which
                    is then about one state; text behind its layers j in `change`, since layers
                    before a have answered with it already

`change` is what the linearised network answers. `bound` is the most that a step of that length can
do in any direction. The real network is linear over no step as long as a layer's update; it turns
what arrives, so that signs cancel in it less than `change` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from estimators.clustered import image_mean
from vlm_bridge.data import Item, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import run_batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.rules.measure.margin import MarginPass
from vlm_bridge.rules.measure.suffix import check_differentiable
from vlm_bridge.skip.sublayers import check_residual

Floats = NDArray[np.float64]
#: Modes whose units change the residual stream in a way known from one full pass.
MODES = ("freeze", "block", "early_exit", "late_entry")
#: Cosine of step and slope below which the step is orthogonal to all that the answer reads. By
#: chance it is about 1/sqrt(tokens x width), a few thousandths on the smallest of models.
ORTHOGONAL = 1e-4


@dataclass(frozen=True, eq=False)
class MarginSensitivity:
    """What every unit of some modes does to the margin of the answer, question by question.

    Attributes:
        clusters: the image of every question.
        margins: (n,), largest minus second largest logit of the first answer token.
        weights: (n,), `sqrt(p_1 p_2)` of these two answers.
        bound: mode -> (n, units), logits.
        change: mode -> (n, units), logits.
    """

    clusters: tuple[str, ...]
    margins: Floats
    weights: Floats
    bound: dict[str, Floats]
    change: dict[str, Floats]

    def score(self, mode: str) -> Floats:
        """(units,) `E sqrt(p_1 p_2) bound`: root of twice the KL that a change so large would make.

        To second order, `KL = p_1 p_2 dm^2 / 2` between two answers (S7 with the variance in
        place of the range). A step orthogonal to the slope counts by its change instead.
        """
        bound, change = (
            image_mean(self.weights[:, None] * np.abs(part[mode]), self.clusters)
            for part in (self.bound, self.change)
        )
        return np.asarray(np.minimum(bound, change / ORTHOGONAL))

    def flips(self, mode: str) -> Floats:
        """(units,) share of questions with `|change| >= m`: the other answer may come first."""
        reached = np.abs(self.change[mode]) >= self.margins[:, None]
        return np.asarray(image_mean(reached.astype(np.float64), self.clusters))


def measure_sensitivity(
    vlm: VLM,
    items: Iterable[Item],
    *,
    modes: Sequence[str] = MODES,
    batch_size: int = 16,
    checkpoint: Path | None = None,
) -> MarginSensitivity:
    """Measure what the answer feels of every unit. No skipped model is run.

    Args:
        vlm: the model, in float32, with sdpa (its math kernel is used) or eager attention.
        items: questions; answers are not read.
        modes: some of `MODES`.
        batch_size: questions in a batch.
        checkpoint: a file every finished batch is added to; the same call continues from it.

    Raises:
        BridgeError: no items, unknown modes, or a model whose layers do more than add attention
            and MLP to their states.

    Source:
        Statements S6, S7 and S8 (reconstruction of arXiv:2509.25584). Norms held: Ali et al.
        2022, XAI for Transformers, arXiv:2202.07304.

    Example:
        >>> found = measure_sensitivity(vlm, items, modes=["freeze"])  # doctest: +SKIP
        >>> found.score("freeze").round(2)  # doctest: +SKIP
        array([9.41, 0.92, ...])
    """
    items = list(items)
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown or not modes:
        raise BridgeError(
            f"sensitivity is defined in {', '.join(MODES)}, not in {', '.join(unknown) or 'none'}"
        )
    check_differentiable(vlm)
    for layer in vlm.layout.layers:
        check_residual(layer, vlm.layout.text_config.hidden_size)
    modes = tuple(dict.fromkeys(modes))
    found = run_batches(
        vlm,
        items,
        lambda batch: _of_batch(vlm, batch, modes),
        batch_size=batch_size,
        title=f"what the answer of {vlm.name} feels",
        checkpoint=checkpoint,
        key={
            "run": "sensitivity",
            "model": vlm.name,
            "data": items_hash(items),
            "settings": [list(modes), batch_size],
        },
    )

    def joined(name: str) -> Floats:
        return np.concatenate([np.asarray(part[name], dtype=np.float64) for _, part in found])

    return MarginSensitivity(
        clusters=tuple(item.cluster for chosen, _ in found for item in chosen),
        margins=joined("margins"),
        weights=joined("weights"),
        bound={mode: joined(f"bound {mode}") for mode in modes},
        change={mode: joined(f"change {mode}") for mode in modes},
    )


def sensitivity_passes(modes: Sequence[str] = MODES) -> dict[str, float]:
    """Cost of `measure_sensitivity`, in forward-pass equivalents: layers run over all layers.

    A backward pass counts as two, though weights need no derivative here.

    Example:
        >>> sensitivity_passes(["freeze"])
        {'full pass': 2.0, 'backward': 4.0}
    """
    cost = {"full pass": 2.0, "backward": 4.0}
    if {"early_exit", "late_entry"} & set(modes):
        cost["layers without vision keys"] = 1.0
    return cost


def _of_batch(vlm: VLM, batch: Batch, modes: Sequence[str]) -> dict[str, Any]:
    held = MarginPass(vlm, batch, held=True)
    slopes = held.slopes
    plain = MarginPass(vlm, batch)
    steps = _Steps(plain)
    found: dict[str, Any] = {
        "margins": plain.margins.tolist(),
        "weights": plain.weights.tolist(),
    }
    for mode in modes:
        bounds, changes = [], []
        for unit in range(steps.count(mode)):
            places = steps.of(mode, unit)
            changes.append(sum((slopes[i] * step).sum((-1, -2)) for i, step in places))
            places = steps.at_once(mode, unit)
            bounds.append(sum((_norm(plain.slopes[i]) * _norm(step)).sum(-1) for i, step in places))
        found[f"bound {mode}"] = _listed(bounds)
        found[f"change {mode}"] = _listed(changes)
    return found


class _Steps:
    """What each unit changes in the residual stream: (layer behind which, the change) in turn."""

    def __init__(self, kept: MarginPass) -> None:
        self.kept, self.n_layers = kept, len(kept.outputs)
        self._made: dict[str, list[Tensor]] = {}

    def count(self, mode: str) -> int:
        return self.n_layers if mode in ("freeze", "block") else self.n_layers - 1

    def of(self, mode: str, unit: int) -> Iterator[tuple[int, Tensor]]:
        if mode == "early_exit":
            for layer in range(unit + 1, self.n_layers):
                yield layer, self._along("unseen")[layer]
        elif mode == "late_entry":
            yield unit, self._before("freeze", unit)
            for layer in range(unit + 1):
                yield layer, self._along("unseen")[layer]
        else:
            yield unit, self._along(mode)[unit]

    def at_once(self, mode: str, unit: int) -> Iterator[tuple[int, Tensor]]:
        if mode == "late_entry":
            yield unit, self._before("freeze", unit) + self._before("unseen", unit)
        else:
            yield from self.of(mode, unit)

    def _along(self, kind: str) -> list[Tensor]:
        if kind not in self._made:
            self._made[kind] = [self.kept.direction(i, kind) for i in range(self.n_layers)]
        return self._made[kind]

    def _before(self, kind: str, last: int) -> Tensor:
        """Sum of the directions of the layers up to `last`."""
        name = f"summed {kind}"
        if name not in self._made:
            sums: list[Tensor] = []
            for along in self._along(kind):
                sums.append(along + sums[-1] if sums else along)
            self._made[name] = sums
        return self._made[name][last]


def _norm(states: Tensor) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(states, dim=-1)
    return size


def _listed(units: list[Any]) -> Any:
    return torch.stack(units, dim=1).tolist()
