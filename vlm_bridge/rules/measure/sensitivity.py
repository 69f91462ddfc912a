"""Sensitivity of the answer's margin to every unit, from two backward passes.

The margin m is between the two likeliest answers of a question. Per unit, with d the change of
the residual stream by the skip, at the output of the layers where it occurs:

    bound    sum over places and tokens of |dm/dh_t| |d_t|    S6, with the slope at every token in
                                                              place of a Lipschitz constant
    change   sum over places of <dm/dh, d>, with norms held (`margin.py`)

The changes and their places:

    freeze l        - F_l on vision tokens, at the output of layer l
    block l         - F_l on all tokens, at the output of layer l
    sublayer l, vision_attention l, vision_mlp l
                    the change of the output of layer l without that sublayer, of all tokens or of
                    vision tokens, from one more run of the layer
    early exit b    in each layer j >= b, the change of text without vision keys (S8, exact for the
                    layer), at its output
    late entry a    minus all updates of vision before a, since vision enters as embedded, and the
                    change of text without vision keys in layers j < a. In `bound` both are at the
                    output of layer a - 1, one state; in `change` text is at the output of its
                    layer j, since later layers before a read it

`change` is the response of the linearised network, `bound` the largest response to a step of that
length in any direction. A layer's update is too long a step for the real network to be linear: the
network rotates it, so that signs cancel less than in `change`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

from estimators.clustered import image_mean
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.modes import FREE_REMOVALS, KNOWN_REMOVAL_MODES, removed_by
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import units
from vlm_bridge.rules.measure import Floats
from vlm_bridge.rules.measure.margin import MarginPass
from vlm_bridge.rules.measure.suffix import check_differentiable, measured_columns
from vlm_bridge.skip.sublayers import check_residual

#: Cosine of step and slope below which the step counts as orthogonal to the slope. By chance it is
#: about 1/sqrt(tokens x width), a few thousandths on the smallest models.
ORTHOGONAL = 1e-4


@dataclass(frozen=True, eq=False)
class MarginSensitivity:
    """Effect of every unit of some modes on the margin of the answer, by question.

    Attributes:
        clusters: the image of every question.
        margins: (n,) largest minus second largest logit of the first answer token.
        weights: (n,) `sqrt(p_1 p_2)` of these two answers.
        bound, change: mode -> (n, units), logits.
    """

    clusters: tuple[str, ...]
    margins: Floats
    weights: Floats
    bound: dict[str, Floats]
    change: dict[str, Floats]

    def score(self, mode: str) -> Floats:
        """(units,) `E sqrt(p_1 p_2) bound`: the root of twice the KL of so large a change.

        To second order, `KL = p_1 p_2 dm^2 / 2` between two answers (S7 with the variance in
        place of the range). A step orthogonal to the slope is scored by its change instead.
        """
        bound, change = (
            image_mean(self.weights[:, None] * np.abs(part[mode]), self.clusters)
            for part in (self.bound, self.change)
        )
        return np.asarray(np.minimum(bound, change / ORTHOGONAL))

    def flips(self, mode: str) -> Floats:
        """(units,) share of questions with `|change| >= m`, whose answer may change."""
        reached = np.abs(self.change[mode]) >= self.margins[:, None]
        return np.asarray(image_mean(reached.astype(np.float64), self.clusters))


def measure_sensitivity(
    vlm: VLM,
    items: Iterable[Item],
    *,
    modes: Sequence[str] = KNOWN_REMOVAL_MODES,
    batch_size: int = 16,
    checkpoint: Path | None = None,
) -> MarginSensitivity:
    """Measure the sensitivity of the answer's margin to every unit; no skipped model is run.

    The model needs float32 and sdpa (its math kernel is used) or eager attention; labels are not
    read. `checkpoint` is a file for finished batches, from which the same call resumes.

    Raises:
        BridgeError: no items, modes outside `KNOWN_REMOVAL_MODES`, or a model whose layers do more
            than add attention and MLP to their states.

    Source:
        Statements S6, S7 and S8 (reconstruction of arXiv:2509.25584). Norms held: Ali et al.
        2022, XAI for Transformers, arXiv:2202.07304.

    Example:
        >>> sensitivity = measure_sensitivity(vlm, items, modes=["freeze"])  # doctest: +SKIP
        >>> sensitivity.score("freeze").round(2)  # doctest: +SKIP
        array([9.41, 0.92, ...])
    """
    items, known = list(items), KNOWN_REMOVAL_MODES
    unknown = [mode for mode in modes if mode not in known]
    if unknown or not modes:
        raise BridgeError(
            f"sensitivity is defined in {', '.join(known)}, not in {', '.join(unknown) or 'none'}"
        )
    check_differentiable(vlm)
    for layer in vlm.layout.layers:
        check_residual(layer, vlm.layout.text_config.hidden_size)
    modes = tuple(dict.fromkeys(modes))
    of_batch, settings = partial(_of_batch, vlm, modes), [list(modes), batch_size]
    names = ["margins", "weights", *(f"{part} {m}" for part in ("bound", "change") for m in modes)]
    clusters, columns = measured_columns(
        vlm, items, of_batch, names, "sensitivity", settings, checkpoint
    )
    return MarginSensitivity(
        clusters=clusters,
        margins=columns["margins"],
        weights=columns["weights"],
        bound={mode: columns[f"bound {mode}"] for mode in modes},
        change={mode: columns[f"change {mode}"] for mode in modes},
    )


def sensitivity_passes(modes: Sequence[str] = KNOWN_REMOVAL_MODES) -> dict[str, float]:
    """Cost of `measure_sensitivity`, in forward-pass equivalents: layers run over all layers.

    A backward pass counts as two, though weights need no derivative here.

    Example:
        >>> sensitivity_passes(["freeze"])
        {'full pass': 2.0, 'backward': 4.0}
    """
    cost = {"full pass": 2.0, "backward": 4.0}
    parts = {removed_by(unit) for mode in modes for unit in units(mode, 2)}
    if again := len(parts - set(FREE_REMOVALS)):
        cost["layers without a part"] = float(again)
    return cost


def _of_batch(vlm: VLM, modes: Sequence[str], batch: Batch) -> dict[str, Any]:
    slopes = MarginPass(vlm, batch, held=True).slopes
    plain = MarginPass(vlm, batch)
    steps, lengths = _Steps(plain), [vector_norm(slope, dim=-1) for slope in plain.slopes]
    columns = {"margins": plain.margins.tolist(), "weights": plain.weights.tolist()}
    for mode in modes:
        bounds, changes = [], []
        for unit in units(mode, vlm.layout.n_layers):
            parts = ((slopes[i] * step).sum((-1, -2)) for i, step in steps.of(unit))
            changes.append(sum(parts))
            norms = ((lengths[i], vector_norm(d, dim=-1)) for i, d in steps.merged(unit))
            bounds.append(sum((slope * step).sum(-1) for slope, step in norms))
        columns[f"bound {mode}"] = _listed(bounds)
        columns[f"change {mode}"] = _listed(changes)
    return columns


class _Steps:
    """Changes of the residual stream by a unit, as pairs (layer, change of its output)."""

    def __init__(self, full: MarginPass) -> None:
        self.full, self.n_layers = full, len(full.outputs)
        self._cache: dict[str, list[Tensor]] = {}

    def of(self, unit: SkipPlan) -> Iterator[tuple[int, Tensor]]:
        """Every change at its layer; those of vision at the layer before the entry."""
        if unit.entry:
            yield unit.entry - 1, self._summed("freeze")[unit.entry - 1]
        along = self._along(removed_by(unit))
        for layer in unit.touched_layers:
            yield layer, along[layer]

    def merged(self, unit: SkipPlan) -> Iterator[tuple[int, Tensor]]:
        """As `of`, with all changes before an entry summed at the layer before it."""
        if unit.entry:
            last = unit.entry - 1
            yield last, self._summed("freeze")[last] + self._summed("unseen")[last]
        else:
            yield from self.of(unit)

    def _along(self, kind: str) -> list[Tensor]:
        if kind not in self._cache:
            self._cache[kind] = [self.full.direction(i, kind) for i in range(self.n_layers)]
        return self._cache[kind]

    def _summed(self, kind: str) -> list[Tensor]:
        """Per layer, the sum of the directions of the layers up to it."""
        name = f"summed {kind}"
        if name not in self._cache:
            self._cache[name] = list(accumulate(self._along(kind), lambda total, d: d + total))
        return self._cache[name]


def _listed(of_units: list[Any]) -> Any:
    return torch.stack(of_units, dim=1).tolist()
