"""Slopes of the network after each layer along the update that a skip would remove there.

    dz_l = J_l(h_{l+1} + at d_l) d_l

with `J_l` the Jacobian of the suffix after layer l, at the state of the full pass where `at` is 0,
and `d_l` of one of `suffix.KINDS`: minus the layer's update (block), minus its update of vision
tokens (freeze), or the change without one of its sublayers or without vision keys. `z + dz`
are the first answer token's logits if the suffix is linear. No skipped model is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from vlm_bridge.data import Item, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.modes import FREE_REMOVALS
from vlm_bridge.rules.measure.slope_table import Slopes
from vlm_bridge.rules.measure.suffix import (
    KINDS,
    FullPass,
    check_differentiable,
    finite_difference,
    gain,
    jvp,
    measured_columns,
)

#: Answers whose logits are followed, by default: the likeliest of the full model.
TOKENS = 64
#: Steps of the power iteration for each layer's gain.
STEPS = 4


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
    """Measure slopes along each layer's update, by one full pass and forward-mode derivatives.

    Args:
        vlm: in float32, with sdpa (its math kernel is used) or eager attention.
        items: questions; labels are not read.
        kinds: some of `suffix.KINDS`.
        differences: also measure every slope by finite differences; runs the suffix twice more.
        bound: also measure the gain of every layer and of the head, for the S6 bound.
        at: position along the step: 0 at the state of the full pass, 0.5 halfway, where a linear
            prediction is right to second order.
        tokens: number of likeliest answers per question that are followed, at least 2.
        batch_size: questions in a batch.
        checkpoint: a file for finished batches; the same call resumes from it.

    Raises:
        BridgeError: no items, unknown kinds, a model without forward-mode derivatives, `at`
            outside [0, 1], fewer than two tokens.

    Source:
        Statement S6 (reconstruction of arXiv:2509.25584); forward mode: torch.func.jvp.

    Example:
        >>> slopes = measure_slopes(vlm, items)  # doctest: +SKIP
        >>> [round(row.kl, 3) for row in slopes.rows() if row.kind == "freeze"]  # doctest: +SKIP
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
    settings = [list(kinds), differences, bound, at, tokens, batch_size]

    def of_batch(batch: Batch) -> dict[str, Any]:
        return _of_batch(FullPass(vlm, batch), kinds, differences, bound, at, tokens)

    parts = ("change", "length", "numeric") if differences else ("change", "length")
    names = ["logits", *(f"{part} {kind}" for part in parts for kind in kinds)]
    names += ["gains", "head"] if bound else []
    clusters, columns = measured_columns(
        vlm, items, of_batch, names, "slopes", settings, checkpoint
    )
    attention, n_layers = vlm.layout.text_config._attn_implementation, vlm.layout.n_layers
    return Slopes(
        model=vlm.name,
        n_layers=n_layers,
        data_hash=items_hash(items),
        clusters=clusters,
        logits=columns["logits"],
        changes={kind: columns[f"change {kind}"] for kind in kinds},
        lengths={kind: columns[f"length {kind}"] for kind in kinds},
        numeric={kind: columns[f"numeric {kind}"] for kind in kinds} if differences else {},
        gains=columns.get("gains"),
        head=columns.get("head"),
        attention="sdpa (math kernel)" if attention == "sdpa" else attention,
        forward_cost=slopes_forward_cost(n_layers, kinds, differences=differences, bound=bound),
        fingerprint=vlm.fingerprint,
    )


def slopes_forward_cost(
    n_layers: int, kinds: Sequence[str], *, differences: bool = False, bound: bool = False
) -> dict[str, float]:
    """Cost of `measure_slopes` in forward-pass equivalents: decoder layers run over all layers.

    Example:
        >>> slopes_forward_cost(30, ("block", "freeze"))
        {'full pass': 1.0, 'jvp': 58.0}
    """
    suffixes = sum(n_layers - layer - 1 for layer in range(n_layers)) / n_layers
    cost = {"full pass": 1.0, "jvp": 2.0 * len(kinds) * suffixes}
    if again := len(set(kinds) - set(FREE_REMOVALS)):
        cost["layers without a part"] = float(again)
    if differences:
        cost["finite differences"] = 2.0 * len(kinds) * suffixes
    if bound:
        cost["gains"] = 5.0 * STEPS
    return cost


def _of_batch(
    full: FullPass, kinds: Sequence[str], differences: bool, bound: bool, at: float, tokens: int
) -> dict[str, Any]:
    top = full.logits.topk(min(tokens, full.logits.shape[-1]), dim=-1)
    columns: dict[str, Any] = {"logits": top.values.tolist()}

    def followed(per_layer: list[torch.Tensor]) -> Any:
        return torch.stack([x.gather(-1, top.indices) for x in per_layer], 1).tolist()

    layers = range(len(full.outputs))
    for kind in kinds:
        along = [full.direction(layer, kind) for layer in layers]
        places = [full.outputs[i] + at * along[i] for i in layers]
        changes = [jvp(full.suffix(i), places[i], along[i]) for i in layers]
        columns[f"change {kind}"] = followed(changes)
        lengths = [d.flatten(1).norm(dim=1) for d in along]
        columns[f"length {kind}"] = torch.stack(lengths, 1).tolist()
        if differences:
            changes = [finite_difference(full.suffix(i), places[i], along[i]) for i in layers]
            columns[f"numeric {kind}"] = followed(changes)
    if bound:
        gains = [gain(full.update(i), full.inputs[i], steps=STEPS) for i in layers]
        columns["gains"] = torch.stack(gains, 1).tolist()
        columns["head"] = gain(full.suffix(layers[-1]), full.outputs[-1], steps=STEPS).tolist()
    return columns
