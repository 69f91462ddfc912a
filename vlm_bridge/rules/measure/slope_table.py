"""Measured slopes and their predictions: a row for each layer and kind of skip."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from estimators.clustered import image_mean
from theory.conditions import telescoping_bound
from vlm_bridge.errors import BridgeError
from vlm_bridge.rules.measure import Floats


@dataclass(frozen=True)
class SlopeRow:
    """One layer and one kind of skip, means over images.

    Attributes:
        layer: 0-based.
        kind: one of `suffix.KINDS`.
        length: `|d|`, l2 over all tokens, unit of the residual stream.
        change: largest `|dz|` over the followed answers, logits.
        slope: `change / length`; 0 if the length is 0.
        kl: `KL(p || softmax(z + dz))` over the followed answers, nats.
        flips: share of questions whose likeliest answer changes in `z + dz`.
        difference: `|jvp - finite difference| / |jvp|` (norms over questions and answers).
        bound: `|d| prod_{j > l} (1 + lambda_j) K`, logits (S6).
        looseness: `bound / change`. The last three are NaN if not measured or nothing changed.
    """

    layer: int
    kind: str
    length: float
    change: float
    slope: float
    kl: float
    flips: float
    difference: float
    bound: float
    looseness: float


@dataclass(frozen=True, eq=False)
class Slopes:
    """First-order changes of the first answer token's logits, by question.

    Attributes:
        model, data_hash: name of the model, hash of the questions.
        n_layers: L.
        clusters: the image of every question.
        logits: (n, k) of the k likeliest answers of each question.
        changes: kind -> (n, L, k) `dz` of the same answers.
        lengths: kind -> (n, L) `|d|`.
        numeric: kind -> (n, L, k) `dz` by finite differences; empty if not requested.
        gains: (n, L) local gain lambda of each layer's update, or None.
        head: (n,) local gain K of final norm and head, or None.
        attention: its implementation.
        forward_cost: name -> cost in forward-pass equivalents; a jvp counts as two passes through
            its layers, a step of the power iteration as five.
        fingerprint: of the model.
    """

    model: str
    n_layers: int
    data_hash: str
    clusters: tuple[str, ...]
    logits: Floats
    changes: dict[str, Floats]
    lengths: dict[str, Floats]
    numeric: dict[str, Floats]
    gains: Floats | None
    head: Floats | None
    attention: str
    forward_cost: dict[str, float]
    fingerprint: str = ""

    def bound(self, kind: str) -> Floats:
        """(n, L) the S6 bound on the largest logit change, from norms and gains alone.

        The gains are local, and power iteration approaches them from below: on a real network this
        is S6 with measured constants, not a theorem.
        """
        if self.gains is None or self.head is None:
            raise BridgeError("the S6 bound needs the gains: measure slopes with bound=True")
        bounds = np.empty_like(self.lengths[kind])
        for i, layer in np.ndindex(bounds.shape):
            state = telescoping_bound(self.lengths[kind][i], self.gains[i], {layer}).value
            bounds[i, layer] = state * self.head[i]
        return bounds

    def predicted(self, change: Floats) -> tuple[Floats, Floats]:
        """Mean over images of `KL(p || softmax(z + dz))`, nats, and of changed answers: (units,).

        `change` is dz, (n, units, k).
        """
        before = _log_softmax(self.logits)[:, None, :]
        after = _log_softmax(self.logits[:, None, :] + change)
        kl = np.clip((np.exp(before) * (before - after)).sum(-1), 0.0, None)
        flips = (after.argmax(-1) != before.argmax(-1)).astype(float)
        return image_mean(kl, self.clusters), image_mean(flips, self.clusters)

    def rows(self) -> list[SlopeRow]:
        """A row for every kind and layer."""
        return [row for kind in self.changes for row in self._rows(kind)]

    def _rows(self, kind: str) -> list[SlopeRow]:
        """The rows of one kind, one per layer."""
        sizes = np.abs(self.changes[kind]).max(-1)
        bounds = np.full_like(sizes, np.nan) if self.gains is None else self.bound(kind)
        columns = (image_mean(x, self.clusters) for x in (self.lengths[kind], sizes, bounds))
        numbers = np.array([*columns, *self.predicted(self.changes[kind])]).T.tolist()
        return [
            SlopeRow(
                layer=layer,
                kind=kind,
                length=length,
                change=change,
                slope=change / length if length > 0 else 0.0,
                kl=kl,
                flips=flips,
                difference=self._difference(kind, layer),
                bound=bound,
                looseness=bound / change if change > 0 else np.nan,
            )
            for layer, (length, change, bound, kl, flips) in enumerate(numbers)
        ]

    def _difference(self, kind: str, layer: int) -> float:
        """`SlopeRow.difference`."""
        if kind not in self.numeric:
            return float("nan")
        exact = self.changes[kind][:, layer]
        size = float(np.linalg.norm(exact))
        error = float(np.linalg.norm(exact - self.numeric[kind][:, layer]))
        return error / size if size > 0 else (float("nan") if error == 0 else float("inf"))

    def to_json(self) -> dict[str, Any]:
        """The rows as strict JSON data; unmeasured numbers are null."""
        rows = [
            {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in asdict(row).items()}
            for row in self.rows()
        ]
        return {
            "type": "Slopes",
            "schema_version": 1,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "n_layers": self.n_layers,
            "n_images": len(set(self.clusters)),
            "n_questions": len(self.clusters),
            "data_hash": self.data_hash,
            "attention": self.attention,
            "forward_cost": self.forward_cost,
            "rows": rows,
        }


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
