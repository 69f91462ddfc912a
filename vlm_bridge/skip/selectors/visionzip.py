"""VisionZip (Yang et al. 2024, arXiv 2412.04467): tokens that the vision encoder attends to."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.layout import Layout
from vlm_bridge.model.stacks import Stack, attentions
from vlm_bridge.plan.layer_op import Operation
from vlm_bridge.skip import tensors
from vlm_bridge.skip.pass_state import PassState
from vlm_bridge.skip.patching import Forward, check_not_replaced, forward_of, twin
from vlm_bridge.skip.sublayers import check_interface
from vlm_bridge.skip.tracker import PassTracker, bound

#: Models whose connector maps every token of the encoder to one token of the prompt, in order ->
#: whether it leaves out the first token; None: as `vision_feature_select_strategy` says.
_ONE_TO_ONE: dict[str, bool | None] = {
    "LlavaModel": None,
    "VipLlavaModel": True,
    "PaliGemmaModel": False,
    "DeepseekVLModel": False,
    "JanusModel": False,
}
#: Encoders of one image a row -> whether their first token is a class token.
_ENCODERS = {"CLIPVisionModel": True, "SiglipVisionModel": False, "JanusVisionModel": False}
#: Attention functions of ours: by the first query of an image alone, and by all.
_FIRST, _ALL = "skipit_received_from_first", "skipit_received_from_all"
#: Attribute of the output of `get_image_features` that has the scores of its rows.
_NAME = "_skipit_received"
#: Selectors that need nothing of the encoder.
_INSTEAD = "divprune, dart or cdpruner"
_UNKNOWN = (
    "visionzip reads the attention of the vision encoder, and the images of this pass were not "
    "encoded in the block, or their features were changed since; give pixel_values, or select "
    f"{_INSTEAD}"
)


def visionzip_places(features: Tensor, text: Tensor, quota: int, seed: int) -> Tensor:
    """(quota,) places of the tokens that receive most attention; the earlier of equals.

    `features` (n, 1) has the attention that each token receives in the encoder; see `Received`.

    >>> visionzip_places(torch.tensor([[0.1], [0.4], [0.1], [0.2]]), torch.zeros(0, 1), 3, 0)
    tensor([1, 3, 0])
    """
    return features[:, 0].argsort(descending=True, stable=True)[:quota]


def received_in(now: PassState) -> Tensor:
    """(batch, t, 1) attention that each position of a pass received in the vision encoder.

    Raises:
        BridgeError: no image was encoded for this pass.
    """
    if now.received is None:
        raise BridgeError(_UNKNOWN)
    return now.received[..., None]


class Received:
    """The attention that every image token receives in the encoder's second-to-last layer.

    With A_h(q, k) the attention of query q on key k in head h of H, the score of token k is
    `sum_h A_h(CLS, k) / H` where the encoder has a class token, else
    `sum_h sum_q A_h(q, k) / (H n)` over all n queries of the image, as in the authors' code. The
    attention runs unchanged and is then called again; a function registered here takes queries and
    keys of that call, so that sdpa and eager models choose by the same numbers, in float32.

    Images that are encoded before their pass, as in `generate`, are known again by their features.

    Example:
        >>> received = Received(tracker)  # doctest: +SKIP
        >>> for module, name, forward in received.replacements():  # doctest: +SKIP
        ...     stack.enter_context(patched(module, forward, name))
    """

    def __init__(self, tracker: PassTracker) -> None:
        self._tracker, self._layout = tracker, tracker.layout
        self._stack, self._first = _vision(tracker.layout)
        self._thread = _Thread()
        AttentionInterface.register(_FIRST, partial(_interrupt, 1))
        AttentionInterface.register(_ALL, partial(_interrupt, None))

    def replacements(self) -> Iterator[tuple[nn.Module, str, Forward]]:
        """(module, name, function); to be put in place before those of the tracker."""
        attention, base = _attention(self._stack), self._layout.base
        again = _twin(attention, self._first)
        check_not_replaced(attention, f"the attention of layer {_layer(self._stack)}")
        yield attention, "forward", partial(self._attend, forward_of(attention), again)
        encode: Any = base.get_image_features
        yield base, "get_image_features", partial(self._encode, encode)
        yield base, "forward", partial(self._run, type(base).forward, forward_of(base))

    def _attend(self, forward: Forward, again: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Replaces the attention: notes what each token receives, (images, tokens)."""
        output = forward(*args, **kwargs)
        if self._thread.received is not None:
            self._thread.received.append(_scores(again, *args, **kwargs)[:, self._first :])
        return output

    def _encode(self, encode: Forward, *args: Any, **kwargs: Any) -> Any:
        """Replaces `get_image_features`: its output carries the scores of its rows."""
        outer, self._thread.received = self._thread.received, []
        try:
            output = encode(*args, **kwargs)
            found = self._thread.received
        finally:
            self._thread.received = outer
        features = getattr(output, "pooler_output", None)
        if not found or features is None:  # the caller asked for a tuple
            return output
        known = _Known(torch.cat([part.flatten() for part in found]), _rows(features))
        if len(known.rows) != len(known.scores):
            raise BridgeError(
                f"visionzip: the vision encoder gives {len(known.scores)} tokens and the model "
                f"makes {len(known.rows)} features of them, so that their scores cannot be told; "
                f"select {_INSTEAD}"
            )
        setattr(output, _NAME, known)
        self._thread.known = known
        if self._thread.now is not None:
            self._thread.now.received = _placed(known.scores, self._thread.now)
        return output

    def _run(self, signature: Forward, forward: Forward, *args: Any, **kwargs: Any) -> Any:
        """Replaces the forward of the base: scores of images that were encoded beforehand."""
        arguments, now = bound(signature, args, kwargs), self._tracker.whole
        if now.has_modality and arguments.get("pixel_values") is None:
            encoded = (arguments.get("mm_encoder_outputs") or {}).get("image")
            # `generate` makes new outputs of the chunks of a prompt.
            known = getattr(encoded, _NAME, self._thread.known)
            features = getattr(encoded, "pooler_output", None)
            if known is None or features is None:
                raise BridgeError(_UNKNOWN)
            now.received = _placed(known.of(_rows(features)), now)
        self._thread.now = now
        try:
            return forward(*args, **kwargs)
        finally:
            self._thread.now = None


@dataclass(frozen=True)
class _Known:
    """Features of image tokens, and their scores.

    `generate` repeats the features of a prompt for its copies, and cuts them for its chunks.
    """

    scores: Tensor
    rows: Tensor

    def of(self, rows: Tensor) -> Tensor:
        """(n,) the scores of these features, each of which must be a known one, bit by bit.

        Tokens of equal features and other scores cannot be told apart, which is refused.
        """
        n, rows = len(self.rows), rows.to(self.rows.device)
        number = torch.cat([self.rows, rows]).unique(dim=0, return_inverse=True)[1]
        place = number.new_full((len(number),), -1)
        place[number[:n]] = torch.arange(n, device=number.device)
        found = place[number[n:]]
        if bool((found < 0).any()):
            raise BridgeError(_UNKNOWN)
        if not self.scores.allclose(self.scores[place[number[:n]]], rtol=1e-3):
            raise BridgeError(
                "visionzip knows images that were encoded before their pass by their features, and "
                "tokens of other scores have equal features here; give pixel_values to the pass, "
                f"or select {_INSTEAD}"
            )
        return self.scores[found]


class _Thread(threading.local):
    """The running pass of a thread, what `get_image_features` notes, and what it found last."""

    def __init__(self) -> None:
        self.now: PassState | None = None
        self.received: list[Tensor] | None = None
        self.known: _Known | None = None


def reason_against_visionzip(layout: Layout, operations: Sequence[Operation]) -> str:
    """Why visionzip cannot tell the scores of this model's image tokens, empty if it can.

    `operations` are those of the vision encoder under the plan, if it names any.
    """
    try:
        stack = _vision(layout)[0]
        check_interface(_attention(stack))
    except BridgeError as error:
        return f"{error}; select {_INSTEAD}"
    operation = operations[_layer(stack)] if operations else Operation()
    if operation.bypass or not operation.attention:
        return (
            f"visionzip reads the attention of layer {_layer(stack)} of the vision encoder, which "
            f"the plan skips; let it run, or select {_INSTEAD}"
        )
    return ""


def _vision(layout: Layout) -> tuple[Stack, int]:
    """The vision encoder, and how many class tokens it has before those of the prompt.

    Raises:
        BridgeError: its tokens are not known to be those of the prompt, one by one and in order.
    """
    stack, base, more = layout.encoders.get("vision"), layout.base, layout.video_ids
    kind = type(base).__name__
    if layout.audio_ids or more:
        also = " and ".join(n for n, ids in (("audio", layout.audio_ids), ("video", more)) if ids)
        raise BridgeError(f"visionzip scores the tokens of images, and {kind} takes {also}, too")
    if not isinstance(stack, Stack):
        why = stack or f"{kind} has no vision encoder"
        raise BridgeError(f"visionzip reads the attention of a layer of the vision encoder: {why}")
    tower = type(stack.module).__name__
    ours = (
        type(part).__module__.startswith("transformers.models.") for part in (base, stack.module)
    )
    if kind not in _ONE_TO_ONE or tower not in _ENCODERS or not all(ours):
        raise BridgeError(
            "visionzip needs a vision encoder whose tokens are those of the prompt, one by one and "
            f"in order, which is not known of {kind} with {tower} (merging, resampling, tiling "
            "and packing break it)"
        )
    first, drops = _ENCODERS[tower], _ONE_TO_ONE[kind]
    if drops is None:
        drops = getattr(base.config, "vision_feature_select_strategy", "") == "default"
    if first != drops:
        what = "leaves the class token of its vision encoder among the tokens of the prompt"
        if drops:
            what = "leaves out the first token of an encoder that has no class token"
        raise BridgeError(
            f"visionzip needs the tokens of all patches and no other, and {kind} {what}"
        )
    if stack.n_layers < 2:
        raise BridgeError(
            "visionzip reads the second-to-last layer, and the vision encoder has one"
        )
    return stack, int(first)


def _layer(stack: Stack) -> int:
    return stack.n_layers - 2


def _attention(stack: Stack) -> nn.Module:
    return next(iter(attentions(stack.layers[_layer(stack)]).values()))


def _placed(scores: Tensor, now: PassState) -> Tensor | None:
    """(batch, t) the scores, in the order of the prompts, at the modality positions of a pass."""
    if (total := sum(now.counts)) == 0:
        return None
    if total != len(scores):
        raise BridgeError(
            f"visionzip: this pass has {total} image tokens and the vision encoder has encoded "
            f"{len(scores)} for it, so that their scores cannot be told; select {_INSTEAD}"
        )
    nowhere = scores.new_zeros(now.flags.shape)
    return nowhere.masked_scatter(now.flags.to(scores.device), scores)


def _rows(features: Tensor | Sequence[Tensor]) -> Tensor:
    """(n, width) features (..., width), one row for a token."""
    parts = [part.detach().flatten(0, -2) for part in features]
    return torch.cat(parts).float()


def _twin(attention: nn.Module, queries: int) -> nn.Module:
    """The attention with a function of ours that ends it; it shares all weights."""
    again = twin(attention)
    config: Any = copy.copy(attention.config)
    config._attn_implementation_internal = _FIRST if queries else _ALL
    again.config = config
    return again


@torch.no_grad()
def _scores(again: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
    """(images, tokens) float32: what each token receives, mean over heads and queries."""
    try:
        again.forward(*args, **kwargs)
    except tensors.Interrupt as stopped:
        return stopped.tensors[0]
    raise BridgeError(
        f"{type(again).__name__} computes its attention without transformers' AttentionInterface, "
        "so visionzip has no score"
    )


def _interrupt(
    queries: int | None,
    _: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    mask = attention_mask
    if mask is None:  # an encoder sees all of its image
        mask = key.new_zeros(1, 1, 1, key.shape[2])
    shares = tensors.probabilities(
        query[:, :, :queries], key, mask[:, :, :queries], options.get("scaling")
    )
    raise tensors.Interrupt(shares.mean((1, 2)))
