"""Slopes of the network behind each layer along what a skip would take away there.

    dz_l = J_l(h_{l+1} + at d_l) d_l

with `J_l` the Jacobian of the suffix after layer l, at the state of the full pass where `at` is 0,
and `d_l` one of `suffix.KINDS`: minus the update of the layer (block), of its vision tokens
(freeze), or what text loses where it does not attend to vision there (unseen). `z + dz` is what
the first answer token's logits would be if the suffix were linear. No skipped model is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from estimators.clustered import image_mean
from theory.conditions import telescoping_bound
from vlm_bridge.data import Item, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import run_batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.rules.measure.suffix import (
    KINDS,
    KeptPass,
    check_differentiable,
    finite_difference,
    gain,
    jvp,
)

Floats = NDArray[np.float64]

#: Answers whose logits are followed: the likeliest ones of the full model, for every question.
TOKENS = 64
#: Steps of the power iteration for each layer's gain.
STEPS = 4


@dataclass(frozen=True)
class SlopeRow:
    """One layer and one kind of skip, means over images.

    Attributes:
        layer: 0-based.
        kind: one of `suffix.KINDS`.
        length: `|d|`, l2 over all tokens, unit of the residual stream.
        change: largest `|dz|` over the answers followed, logits.
        slope: `change / length`, 0 where the length is.
        kl: `KL(p || softmax(z + dz))` over the answers followed, nats.
        flips: share of questions whose likeliest answer changes in `z + dz`.
        difference: `|jvp - finite difference| / |jvp|` (norms over everything measured); NaN
            where it was not measured, or nothing changed.
        bound: `|d| prod_{j > l} (1 + lambda_j) K`, logits (S6); NaN where not measured.
        looseness: `bound / change`; NaN where not measured or nothing changed.
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
    """First-order changes of the first answer token's logits, question by question.

    Attributes:
        model: name of the model.
        n_layers: L.
        data_hash: of the questions.
        clusters: the image of every question.
        logits: (n, k), those of the k likeliest answers of each question.
        changes: kind -> (n, L, k), `dz` of the same answers.
        lengths: kind -> (n, L), `|d|`.
        numeric: kind -> (n, L, k), `dz` by finite differences; empty where not asked for.
        gains: (n, L), local gain lambda of each layer's update, or None.
        head: (n,), local gain K of final norm and head, or None.
        attention: how attention was computed.
        forward_cost: cost in forward-pass equivalents, by name; a jvp counts as two passes through
            the layers it goes through, a step of the power iteration as five.
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

    def bound(self, kind: str) -> Floats:
        """(n, L) the S6 bound on the largest logit change, from norms and gains alone.

        The gains are local, at the states of the full pass, and power iteration approaches
        them from below. On a real network this is S6 with measured constants, no theorem.

        Raises:
            BridgeError: the gains were not measured.
        """
        if self.gains is None or self.head is None:
            raise BridgeError("the S6 bound needs the gains: measure slopes with bound=True")
        found = np.empty_like(self.lengths[kind])
        for i, (lengths, gains) in enumerate(zip(self.lengths[kind], self.gains, strict=True)):
            for layer in range(self.n_layers):
                state = telescoping_bound(lengths, gains, {layer}).value
                found[i, layer] = state * self.head[i]
        return found

    def predicted(self, change: Floats) -> tuple[Floats, Floats]:
        """What a change of the logits does to the first answer token, mean over images.

        Args:
            change: (n, units, k), sums of `changes`.

        Returns:
            `KL(p || softmax(z + dz))` in nats and the share of changed answers, each (units,).
        """
        before = _log_softmax(self.logits)[:, None, :]
        after = _log_softmax(self.logits[:, None, :] + change)
        kl = np.clip((np.exp(before) * (before - after)).sum(-1), 0.0, None)
        flips = (after.argmax(-1) != before.argmax(-1)).astype(float)
        return image_mean(kl, self.clusters), image_mean(flips, self.clusters)

    def rows(self) -> list[SlopeRow]:
        """Every kind and layer."""
        return [row for kind in self.changes for row in self._rows(kind)]

    def _rows(self, kind: str) -> list[SlopeRow]:
        kl, flips = self.predicted(self.changes[kind])
        size = np.abs(self.changes[kind]).max(-1)
        length, change = (image_mean(x, self.clusters) for x in (self.lengths[kind], size))
        bound = np.full(self.n_layers, np.nan)
        if self.gains is not None:
            bound = image_mean(self.bound(kind), self.clusters)
        return [
            SlopeRow(
                layer=layer,
                kind=kind,
                length=float(length[layer]),
                change=float(change[layer]),
                slope=float(change[layer] / length[layer]) if length[layer] > 0 else 0.0,
                kl=float(kl[layer]),
                flips=float(flips[layer]),
                difference=self._difference(kind, layer),
                bound=float(bound[layer]),
                looseness=float(bound[layer] / change[layer]) if change[layer] > 0 else np.nan,
            )
            for layer in range(self.n_layers)
        ]

    def _difference(self, kind: str, layer: int) -> float:
        if kind not in self.numeric:
            return float("nan")
        exact = self.changes[kind][:, layer]
        size = float(np.linalg.norm(exact))
        error = float(np.linalg.norm(exact - self.numeric[kind][:, layer]))
        return error / size if size > 0 else (float("nan") if error == 0 else float("inf"))

    def to_json(self) -> dict[str, Any]:
        """The rows as strict JSON data; a number that was not measured is null."""
        rows = [
            {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in asdict(row).items()}
            for row in self.rows()
        ]
        return {
            "type": "Slopes",
            "schema_version": 1,
            "model": self.model,
            "n_layers": self.n_layers,
            "n_images": len(set(self.clusters)),
            "n_questions": len(self.clusters),
            "data_hash": self.data_hash,
            "attention": self.attention,
            "forward_cost": self.forward_cost,
            "rows": rows,
        }


def measure_slopes(
    vlm: VLM,
    items: Iterable[Item],
    *,
    kinds: Sequence[str] = KINDS,
    differences: bool = False,
    bound: bool = False,
    at: float = 0.0,
    tokens: int = TOKENS,
    batch_size: int = 16,
    checkpoint: Path | None = None,
) -> Slopes:
    """Measure slopes along what each layer does, from one full pass and forward-mode derivatives.

    Args:
        vlm: the model, in float32, with sdpa (its math kernel is used) or eager attention.
        items: questions; answers are not read.
        kinds: some of `suffix.KINDS`.
        differences: also measure every slope by finite differences; runs the suffix twice more.
        bound: also measure the gain of every layer and of the head, for the S6 bound.
        at: where along the step the slope is taken: 0 at the state of the full pass, 0.5 in the
            middle of what the skip takes away, where a linear prediction is right to second
            order.
        tokens: how many of the likeliest answers of a question are followed, at least 2; a
            change to any other answer is not seen.
        batch_size: questions in a batch.
        checkpoint: a file every finished batch is added to; the same call continues from it.

    Raises:
        BridgeError: no items, unknown kinds, a model without forward-mode derivatives, `at`
            outside [0, 1], fewer than two tokens.

    Source:
        Statement S6 (reconstruction of arXiv:2509.25584); forward mode: torch.func.jvp.

    Example:
        >>> found = measure_slopes(vlm, items)  # doctest: +SKIP
        >>> [round(row.kl, 3) for row in found.rows() if row.kind == "freeze"]  # doctest: +SKIP
        [0.412, 0.003, ...]
    """
    items = list(items)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise BridgeError(
            f"slopes are along {', '.join(KINDS)}, not {', '.join(unknown) or 'none'}"
        )
    if not 0.0 <= at <= 1.0:
        raise BridgeError(f"slopes are taken between 0 and 1 of the step, got at={at}")
    if tokens < 2:
        raise BridgeError(f"slopes need at least two answers to compare, got tokens={tokens}")
    check_differentiable(vlm)
    kinds = tuple(dict.fromkeys(kinds))
    found = run_batches(
        vlm,
        items,
        lambda batch: _of_batch(vlm, batch, kinds, differences, bound, at, tokens),
        batch_size=batch_size,
        title=f"slopes of {vlm.name}",
        checkpoint=checkpoint,
        key={
            "run": "slopes",
            "model": vlm.name,
            "data": items_hash(items),
            "settings": [list(kinds), differences, bound, at, tokens, batch_size],
        },
    )

    def joined(name: str) -> Floats:
        return np.concatenate([np.asarray(part[name], dtype=np.float64) for _, part in found])

    attention = vlm.layout.text_config._attn_implementation
    return Slopes(
        model=vlm.name,
        n_layers=vlm.layout.n_layers,
        data_hash=items_hash(items),
        clusters=tuple(item.cluster for chosen, _ in found for item in chosen),
        logits=joined("logits"),
        changes={kind: joined(f"change {kind}") for kind in kinds},
        lengths={kind: joined(f"length {kind}") for kind in kinds},
        numeric={kind: joined(f"numeric {kind}") for kind in kinds} if differences else {},
        gains=joined("gains") if bound else None,
        head=joined("head") if bound else None,
        attention="sdpa (math kernel)" if attention == "sdpa" else attention,
        forward_cost=slopes_forward_cost(
            vlm.layout.n_layers, kinds, differences=differences, bound=bound
        ),
    )


def slopes_forward_cost(
    n_layers: int, kinds: Sequence[str], *, differences: bool = False, bound: bool = False
) -> dict[str, float]:
    """What `measure_slopes` costs in forward-pass equivalents: decoder layers run over all layers.

    Example:
        >>> slopes_forward_cost(30, ("block", "freeze"))
        {'full pass': 1.0, 'jvp': 58.0}
    """
    suffixes = sum(n_layers - layer - 1 for layer in range(n_layers)) / n_layers
    cost = {"full pass": 1.0, "jvp": 2.0 * len(kinds) * suffixes}
    if "unseen" in kinds:
        cost["layers without vision keys"] = 1.0
    if differences:
        cost["finite differences"] = 2.0 * len(kinds) * suffixes
    if bound:
        cost["gains"] = 5.0 * STEPS
    return cost


def _of_batch(
    vlm: VLM,
    batch: Batch,
    kinds: Sequence[str],
    differences: bool,
    bound: bool,
    at: float,
    tokens: int,
) -> dict[str, Any]:
    kept = KeptPass(vlm, batch)
    top = kept.logits.topk(min(tokens, kept.logits.shape[-1]), dim=-1)
    found: dict[str, Any] = {"logits": top.values.tolist()}

    def followed(per_layer: list[torch.Tensor]) -> list[Any]:
        picked: list[Any] = torch.stack([x.gather(-1, top.indices) for x in per_layer], 1).tolist()
        return picked

    layers = range(vlm.layout.n_layers)
    for kind in kinds:
        along = [kept.direction(layer, kind) for layer in layers]
        places = [kept.outputs[i] + at * along[i] for i in layers]
        slopes = [jvp(kept.suffix(i), places[i], along[i]) for i in layers]
        found[f"change {kind}"] = followed(slopes)
        found[f"length {kind}"] = torch.stack([d.flatten(1).norm(dim=1) for d in along], 1).tolist()
        if differences:
            numeric = [finite_difference(kept.suffix(i), places[i], along[i]) for i in layers]
            found[f"numeric {kind}"] = followed(numeric)
    if bound:
        gains = [gain(kept.update(i), kept.inputs[i], steps=STEPS) for i in layers]
        found["gains"] = torch.stack(gains, 1).tolist()
        last = layers[-1]
        found["head"] = gain(kept.suffix(last), kept.outputs[last], steps=STEPS).tolist()
    return found


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
