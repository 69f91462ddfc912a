"""The slope of the answer's margin at every state: one forward and one backward pass.

Reverse mode gives the slope for all layers at once; a jvp gives it along one update of one layer.

With norms *held*, every norm divides by its value in the full pass, as a constant. The radial term
in the plain derivative of a norm is right for a small step and wrong for a step as long as the
state: an update that rotates the state in a plane that no later layer reads changes no answer, but
a step along its tangent does (S6b).
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.vlm import VLM
from vlm_bridge.rules.measure.suffix import FullPass, differentiable
from vlm_bridge.skip.sublayers import Sublayers
from vlm_bridge.skip.tensors import states_of


class MarginPass(FullPass):
    """A full pass with the slope of its answer's margin at every state.

    The margin m is the largest logit of the first answer token minus the second largest. With
    `held`, the divisor of every norm is a constant.

    Attributes:
        margins: (batch,) m, in logits.
        weights: (batch,) `sqrt(p_1 p_2)` of the two likeliest answers.
        slopes: per layer, (batch, length, width) derivative of m with respect to its output.

    Source:
        Norms held: Ali et al. 2022, XAI for Transformers, arXiv:2202.07304, section 3.2.
    """

    def __init__(self, vlm: VLM, batch: Batch, *, held: bool = False) -> None:
        with contextlib.ExitStack() as stack:
            first = vlm.layout.layers[0]
            stack.callback(first.register_forward_pre_hook(_leaf, with_kwargs=True).remove)
            for norm in _norms(vlm) if held else []:
                stack.callback(norm.register_forward_hook(_held).remove)
            super().__init__(vlm, batch)
        with torch.enable_grad(), differentiable():
            top = self.logits.log_softmax(-1).topk(2, dim=-1).values
            margins = top[:, 0] - top[:, 1]
            slopes = torch.autograd.grad(margins.sum(), self.outputs)
        self.margins, self.slopes = margins.detach(), list(slopes)
        self.weights = (0.5 * top.detach().sum(-1)).exp()
        self.logits = self.logits.detach()
        self.inputs = [states.detach() for states in self.inputs]
        self.outputs = [states.detach() for states in self.outputs]

    def _run(self) -> Tensor:
        with torch.enable_grad():
            return super()._run()


def _norms(vlm: VLM) -> list[nn.Module]:
    """Modules that normalise the residual stream: of every layer, and before the head."""
    norms = []
    for layer in vlm.layout.layers:
        parts = Sublayers.of(layer)
        norms += [child for child in layer.children() if child not in (parts.attention, parts.mlp)]
    # Children of the decoder that have vectors only for weights are norms.
    for child in vlm.layout.decoder.children():
        sizes = {weight.dim() for weight in child.parameters()}
        if child is not vlm.layout.layers and sizes == {1}:
            norms.append(child)
    return norms


def _held(norm: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    """The same output, as a linear function of the input."""
    states, linear = args[0], output
    if isinstance(norm, nn.LayerNorm):
        states = states - states.mean(-1, keepdim=True)
        bias = getattr(norm, "bias", None)
        linear = output if bias is None else output - bias
    scale = torch.where(states == 0, torch.zeros_like(states), linear / states)
    return output.detach() + scale.detach() * (states - states.detach())


def _leaf(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make the input states of the first layer a leaf that requires gradients."""
    states = states_of(args, kwargs).detach().requires_grad_()
    if args:
        return (states, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": states}
