"""One full pass kept, and the suffix of the network behind each layer as a function of its states.

The suffix of layer l is what turns the output of l into logits of the first answer token:
layers l+1 to L-1, the final norm and the head, exactly as the model runs them. Forward-mode
derivatives need attention that has them: sdpa runs with its math kernel here, eager as it is.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.vlm import VLM
from vlm_bridge.skip.patching import parameters_of
from vlm_bridge.skip.resume import starting_at as starting_at
from vlm_bridge.skip.tensors import causal_mask, check_mask, first_of, hide

States = Callable[[Tensor], Tensor]
#: What leaving something out of a layer does to its output; see `KeptPass.direction`.
KINDS = ("block", "freeze", "unseen")


class KeptPass:
    """The states of one full pass over a batch, and what follows from changing them.

    Args:
        vlm: the model, in float32 and with sdpa or eager attention.
        batch: the questions.

    Attributes:
        inputs: per layer, its input states (batch, length, width).
        outputs: per layer, its output states.
        logits: (batch, vocabulary), of the first answer token.

    Raises:
        BridgeError: another precision, or an attention without forward-mode derivatives.
    """

    def __init__(self, vlm: VLM, batch: Batch) -> None:
        check_differentiable(vlm)
        self.vlm, self.batch = vlm, batch
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self._keywords: list[dict[str, Any]] = []
        ids = batch.inputs["input_ids"]
        self.vision = vlm.layout.vision_flags(ids)
        mask = batch.inputs.get("attention_mask")
        self.real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        with torch.no_grad(), differentiable(), contextlib.ExitStack() as stack:
            for layer in vlm.layout.layers:
                handle = layer.register_forward_hook(self._keep, with_kwargs=True)
                stack.callback(handle.remove)
            self.logits = self._run()

    def _keep(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        named = dict(zip(parameters_of(layer), args, strict=False)) | kwargs
        self.inputs.append(named.pop("hidden_states"))
        self._keywords.append(named)
        self.outputs.append(first_of(out))

    def _run(self) -> Tensor:
        made = self.vlm.model(**self.batch.inputs, use_cache=False, logits_to_keep=1)
        logits: Tensor = made.logits[:, -1]
        return logits

    def suffix(self, layer: int) -> States:
        """Output states of `layer` -> logits of the first answer token, (batch, vocabulary)."""

        def run(states: Tensor) -> Tensor:
            with differentiable(), starting_at(self.vlm, layer + 1, {layer: states}):
                return self._run()

        return run

    def update(self, layer: int) -> States:
        """Input states of `layer` -> what it adds to the rows that are no padding."""
        module, keywords = self.vlm.layout.layers[layer], self._keywords[layer]

        def run(states: Tensor) -> Tensor:
            with differentiable():
                added = first_of(module(hidden_states=states, **keywords)) - states
            return torch.where(self.real[..., None], added, torch.zeros_like(added))

        return run

    @torch.no_grad()
    def direction(self, layer: int, kind: str) -> Tensor:
        """How the output of `layer` changes when part of what it does is left out.

        `block`: its update, on every token, `-F(h)`. `freeze`: the same on vision tokens only.
        `unseen`: on text tokens, its output where text does not attend to vision keys minus
        its output; one layer is run again for it, on the states of the full pass.

        Returns:
            (batch, length, width), zero on padding.
        """
        if kind == "unseen":
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


def jvp(suffix: States, at: Tensor, along: Tensor) -> Tensor:
    """Slope of `suffix` at a state along a direction, by forward-mode differentiation."""
    with torch.no_grad(), warnings.catch_warnings():
        # torch compiles its own rules for derivatives by what it has deprecated itself.
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        found: Tensor = torch.func.jvp(suffix, (at,), (along,))[1]
    return found


@torch.no_grad()
def finite_difference(suffix: States, at: Tensor, along: Tensor, step: float = 0.05) -> Tensor:
    """The same slope by the central difference over `step` times the direction."""
    return (suffix(at + step * along) - suffix(at - step * along)) / (2.0 * step)


def gain(function: States, at: Tensor, *, steps: int, seed: int = 0) -> Tensor:
    """Largest singular value of the Jacobian at a state, per sequence, by power iteration.

    It approaches the local Lipschitz constant from below, from l2 over all tokens to l2.

    Returns:
        (batch,) float32.
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
    """Run sdpa by its math kernel, the one with forward-mode derivatives on every device."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def check_differentiable(vlm: VLM) -> None:
    """Refuse what has no trustworthy forward-mode derivative.

    Raises:
        BridgeError: attention other than sdpa and eager, or a precision other than float32.
    """
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
