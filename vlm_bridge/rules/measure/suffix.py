"""The states of one full pass, and the suffix of the network after each layer as a function.

The suffix after layer l maps the output of l to the logits of the first answer token: layers l+1
to L-1, the final norm and the head. Attention is eager or sdpa's math kernel, which have
forward-mode derivatives.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.finite import finite
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import answer_logits, run_batches, run_key
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.modes import REMOVALS
from vlm_bridge.rules.measure import Floats
from vlm_bridge.rules.measure.passes import check_reads_prompt, token_masks
from vlm_bridge.skip.patching import forward_of, parameters_of, patched
from vlm_bridge.skip.resume import starting_at
from vlm_bridge.skip.sublayers import Sublayers
from vlm_bridge.skip.tensors import causal_mask, check_mask, first_of, hide, without_rows

States = Callable[[Tensor], Tensor]
#: Ways to leave out part of a layer; see `FullPass.direction`.
KINDS = REMOVALS
#: Kind -> the sublayer that is left out.
_SUBLAYERS = {
    "attention": "attention",
    "mlp": "mlp",
    "vision_attention": "attention",
    "vision_mlp": "mlp",
}


class FullPass:
    """The states of one full pass over a batch in float32, and the suffix after each layer.

    Attributes:
        inputs, outputs: states of each layer, (batch, length, width).
        logits: (batch, vocabulary) of the first answer token.
    """

    def __init__(self, vlm: VLM, batch: Batch) -> None:
        check_differentiable(vlm)
        self.vlm, self.batch = vlm, batch
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self._keywords: list[dict[str, Any]] = []
        self.vision, self.real = token_masks(vlm, batch)
        with torch.no_grad(), differentiable(), contextlib.ExitStack() as stack:
            for layer in vlm.layout.layers:
                handle = layer.register_forward_hook(self._store, with_kwargs=True)
                stack.callback(handle.remove)
            self.logits = finite(vlm, batch.inputs, self._run, names=batch.names)

    def _store(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        named = dict(zip(parameters_of(layer), args, strict=False)) | kwargs
        self.inputs.append(named.pop("hidden_states"))
        self._keywords.append(named)
        self.outputs.append(first_of(out))

    def _run(self) -> Tensor:
        return answer_logits(self.vlm, self.batch)

    def suffix(self, layer: int) -> States:
        """The map from output states of `layer` to first-token logits (batch, vocabulary)."""

        def run(states: Tensor) -> Tensor:
            with differentiable(), starting_at(self.vlm, layer + 1, {layer: states}):
                return self._run()

        return run

    def update(self, layer: int) -> States:
        """The map from input states of `layer` to its update, zero on padding."""
        module, keywords = self.vlm.layout.layers[layer], self._keywords[layer]

        def run(states: Tensor) -> Tensor:
            with differentiable():
                added = first_of(module(hidden_states=states, **keywords)) - states
            return torch.where(self.real[..., None], added, torch.zeros_like(added))

        return run

    @torch.no_grad()
    def direction(self, layer: int, kind: str) -> Tensor:
        """(batch, length, width) change of the output of `layer` without a part of it.

        `block`: minus its update, `-F(h)`, on every token; `freeze`: on vision tokens only.
        `unseen`: on text tokens, its output without attention to vision keys minus its output,
        from one more run of the layer on the states of the full pass; likewise `attention` and
        `mlp`, without its update by that sublayer, on every token, and `vision_attention` and
        `vision_mlp`, on vision tokens only. Zero on padding.
        """
        if kind in _SUBLAYERS:
            rows = self.real & self.vision if kind.startswith("vision_") else self.real
            change = self._without(layer, _SUBLAYERS[kind], rows) - self.outputs[layer]
        elif kind == "unseen":
            self._check_attends(layer)
            keywords = dict(self._keywords[layer])
            mask = keywords.get("attention_mask")
            check_mask(mask, layer)
            before = self.inputs[layer]
            mask = causal_mask(before, 0) if mask is None else mask
            closed = (self.vision[:, None, :] & ~self.vision[:, :, None])[:, None]
            keywords["attention_mask"] = hide(mask, closed.to(mask.device))
            with differentiable():
                after = first_of(self.vlm.layout.layers[layer](hidden_states=before, **keywords))
            change, rows = after - self.outputs[layer], self.real & ~self.vision
        else:
            change = self.inputs[layer] - self.outputs[layer]
            rows = self.real & self.vision if kind == "freeze" else self.real
        return torch.where(rows[..., None], change, torch.zeros_like(change))

    def _check_attends(self, layer: int) -> None:
        """Refuse a layer without self-attention, in which no token sees another."""
        layout = self.vlm.layout
        if not layout.attends(layer):
            raise BridgeError(
                f"layer {layer} of {self.vlm.name} has no self-attention "
                f"({layout.attention_types[layer]}), so no slope of what text sees there"
            )

    def _without(self, layer: int, name: str, rows: Tensor) -> Tensor:
        """The output of `layer` if its sublayer `name` updates no token of `rows`."""
        module = self.vlm.layout.layers[layer]
        part = getattr(Sublayers.of(module), name)
        forward = forward_of(part)

        def cut(*args: Any, **kwargs: Any) -> Any:
            return without_rows(forward(*args, **kwargs), rows)

        with differentiable(), patched(part, cut):
            return first_of(module(hidden_states=self.inputs[layer], **self._keywords[layer]))


def jvp(suffix: States, at: Tensor, along: Tensor) -> Tensor:
    """Slope of `suffix` at a state along a direction, by forward-mode differentiation."""
    with torch.no_grad(), warnings.catch_warnings():
        # torch compiles its own derivative rules with a function that it has deprecated.
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        slope: Tensor = torch.func.jvp(suffix, (at,), (along,))[1]
    return slope


@torch.no_grad()
def finite_difference(suffix: States, at: Tensor, along: Tensor, step: float = 0.05) -> Tensor:
    """The slope as in `jvp`, by the central difference over `step` times the direction."""
    return (suffix(at + step * along) - suffix(at - step * along)) / (2.0 * step)


def gain(function: States, at: Tensor, *, steps: int, seed: int = 0) -> Tensor:
    """(batch,) largest singular value of the Jacobian at a state, by power iteration.

    It approaches the local Lipschitz constant (l2 over all tokens to l2) from below.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    along = torch.randn(at.shape, generator=generator).to(at)
    size = at.new_zeros(len(at))
    with torch.no_grad():
        for _ in range(steps):
            along = along / _norm(along).clamp(min=torch.finfo(at.dtype).tiny).view(-1, 1, 1)
            pushed = jvp(function, at, along)
            size = torch.maximum(size, _norm(pushed))
            along = torch.func.vjp(function, at)[1](pushed)[0].detach()
    return size


def _norm(states: Tensor) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(states.flatten(1), dim=1)
    return size


@contextlib.contextmanager
def differentiable() -> Iterator[None]:
    """Run sdpa with its math kernel, which has forward-mode derivatives on every device."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def check_differentiable(vlm: VLM) -> None:
    """Refuse a model that is no decoder in float32 with sdpa or eager attention."""
    check_reads_prompt(vlm, "slopes")
    attention = vlm.layout.text_config._attn_implementation
    if attention not in ("sdpa", "eager"):
        raise BridgeError(
            f"{vlm.name} computes attention by '{attention}', which has no forward-mode "
            "derivative; load it with attention='sdpa' or 'eager'"
        )
    if vlm.model.dtype != torch.float32:
        raise BridgeError(
            f"slopes are measured in float32, and {vlm.name} is in {vlm.model.dtype}; load it "
            "with dtype='float32'"
        )


def measured_columns(
    vlm: VLM,
    items: Sequence[Item],
    of_batch: Callable[[Batch], dict[str, Any]],
    names: Collection[str],
    run: str,
    settings: list[Any],
    checkpoint: Path | None,
) -> tuple[tuple[str, ...], dict[str, Floats]]:
    """The image of every question, and the columns of all batches; the last setting is their size.

    `of_batch` returns columns with these `names`. `run` and `settings` identify the checkpoint
    file.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def is_result(result: Any, n: int) -> bool:
        if not isinstance(result, dict) or set(result) != set(names):
            return False
        try:
            columns = {name: np.array(values, float) for name, values in result.items()}
        except (ValueError, TypeError):  # rows of different lengths, or no numbers
            return False
        return all(
            column.shape == (n, *shapes.setdefault(name, column.shape[1:]))
            for name, column in columns.items()
        )

    results = run_batches(
        vlm,
        items,
        of_batch,
        is_result,
        batch_size=settings[-1],
        title=f"{run} of {vlm.name}",
        checkpoint=checkpoint,
        key=run_key(run, vlm, items, settings=settings),
    )
    clusters = tuple(item.cluster for part, _ in results for item in part)
    parts = [columns for _, columns in results]
    columns = {k: np.concatenate([np.array(p[k], float) for p in parts]) for k in parts[0]}
    for name, column in columns.items():
        if not np.isfinite(column).all():
            raise BridgeError(f"{run} of {vlm.name}: '{name}' is not finite on some questions")
    return clusters, columns
