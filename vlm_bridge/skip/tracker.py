"""Follow the forward passes of a skipping model: what each of its layers needs to know."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import Cache

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.layout import MODALITIES, Layout
from vlm_bridge.skip.cache import check_cache, check_cache_name
from vlm_bridge.skip.inputs import kind_of, modality_inputs
from vlm_bridge.skip.pass_state import PassState, pass_states_of
from vlm_bridge.skip.patching import Forward, forward_of, parameters_of
from vlm_bridge.skip.rotary import RotaryOffset
from vlm_bridge.skip.stamp import Stamp

T = TypeVar("T")


@dataclass(frozen=True)
class _Prompt:
    """The ids (batch, n) with which `generate` was called, and the position at which they end."""

    ids: Tensor
    end: int

    def of_pass(self, start: int, length: int) -> Tensor:
        """The ids of a pass over `length` positions from `start` on, as far as they are known."""
        first = start - self.end + self.ids.shape[1]
        return self.ids[:, max(first, 0) : max(first + length, 0)]


class _Thread(threading.local):
    """The running pass of a thread, and the prompts of its running calls of `generate`."""

    def __init__(self) -> None:
        self.current: PassState | None = None
        self.whole: PassState | None = None
        self.running = False
        self.prompts: list[_Prompt | None] = []


class PassTracker:
    """Follows the forward passes of a model, in every thread apart, from begin to end.

    A position holds a modality token only if its id says so **and** the pass carries features of
    its kind: an image or audio id that the model itself generated is text, as is a video id that
    was typed in a question about an image. `keep` has the share of modality positions that each
    stage of pruning keeps; `log` records the passes of every cache on it, for the plain forms;
    `check` is called before each pass and raises if the model cannot run as it is now; `stamp`
    is that of every cache that a pass fills.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        keep: Sequence[float] = (),
        log: bool = False,
        check: Callable[[], None] = lambda: None,
        stamp: Stamp | None = None,
    ) -> None:
        self.layout, self._keep, self._log, self._check = layout, keep, log, check
        self._stamp = stamp or Stamp()
        self._resumed: Tensor | None = None
        self._takes_videos = any(
            "video" in name for module in layout.entrances for name in parameters_of(module)
        )
        self._thread, self._rotary = _Thread(), RotaryOffset((*layout.entrances, layout.base))

    @property
    def width(self) -> int:
        """Width of the hidden states."""
        return int(self.layout.text_config.hidden_size)

    @property
    def current(self) -> PassState:
        """The running pass; a decoder called without its model is refused."""
        if self._thread.current is None:
            raise BridgeError(
                "the decoder was called directly while layers are skipped; call the model, so "
                "that modality positions can be derived from input_ids"
            )
        return self._thread.current

    @property
    def whole(self) -> PassState:
        """The running pass at full length, also inside `within`."""
        return self._thread.whole or self.current

    def begin(
        self, flags: Tensor, cache: Any = None, *, counts: list[int] | None = None, mask: Any = None
    ) -> None:
        """Start a pass with modality `flags` (batch, length) and, if known, row sums `counts`."""
        last = real = None
        if self._keep:
            last, real = self._last(flags, cache, mask)
        now = PassState(flags, counts=counts, last=last, real=real, keep=self._keep)
        self._thread.current = self._thread.whole = now
        if self._log and cache is not None:
            pass_states_of(cache).append((_length(cache), now))

    def _last(self, flags: Tensor, cache: Any, mask: Any) -> tuple[Tensor, Tensor]:
        """(batch, 1) last token of each sequence, and (batch, length) which are no padding.

        Guesses of assisted decoding do not count.
        """
        last = flags.new_full((len(flags), 1), flags.shape[1] - 1, dtype=torch.long)
        real, places = torch.ones_like(flags), torch.arange(flags.shape[1], device=flags.device)
        if isinstance(mask, Tensor) and mask.dim() == 2:
            real = mask[:, -flags.shape[1] :].to(flags.device) != 0
            last = (real * places).argmax(1, keepdim=True)
        prompt = self._prompt()
        if prompt is not None and (end := prompt.end - _length(cache)) > 0:
            last = last.clamp(max=end - 1)
        return last, real & (places <= last)

    def within(self, inner: PassState, run: Callable[[], T]) -> T:
        """`run()` with `inner` as the current pass."""
        outer, self._thread.current = self._thread.current, inner
        try:
            return run()
        finally:
            self._thread.current = outer

    def replacements(self) -> Iterator[tuple[nn.Module, str, Forward]]:
        """(module, name, function) of every function of the model that starts passes."""
        for module in self.layout.entrances:
            yield module, "forward", partial(self._run, module, forward_of(module))
            for name, form in (
                ("generate", self._generate),
                ("init_continuous_batching", _refuse_continuous_batching),
            ):
                if hasattr(type(module), name):
                    yield module, name, partial(form, getattr(module, name))

    def resume(self, ids: Tensor, given: Collection[str]) -> None:
        """Prefills to come are of the prompts `ids`, without the pixels or sounds named `given`.

        Their features are in states that an earlier run has left.
        """
        self._resumed = self._places(ids, given) if given else None

    def restore(self) -> None:
        """Give the model back what it remembered before."""
        self._rotary.restore()

    def _run(self, module: nn.Module, forward: Forward, *args: Any, **kwargs: Any) -> Any:
        """Replaces the forward of an entrance: the outermost one called makes the pass."""
        if self._thread.running:
            return forward(*args, **kwargs)
        _refuse_tracing()
        arguments = bound(type(module).forward, args, kwargs)
        self._check()
        with self._rotary.alone():
            self._thread.running = True
            try:
                self._start(arguments)
                output = forward(*args, **kwargs)
                cache = arguments.get("past_key_values")
                cache = _cache_of(output) if cache is None else cache
                self._rotary.keep(cache)
                self._stamp.put(cache)
                return output
            finally:
                self._thread.running = False
                self._thread.current = self._thread.whole = None

    def _start(self, arguments: dict[str, Any]) -> None:
        ids, cache = arguments.get("input_ids"), arguments.get("past_key_values")
        check_cache(cache, self.layout.attends)
        self._stamp.check(cache)
        self._stamp.put(cache)  # before the pass, which may fail when it has filled some layers
        self._rotary.recall(cache, fresh=arguments.get("position_ids") is None)
        embeddings, text_only = arguments.get("inputs_embeds"), not self.layout.modality_ids
        given = {} if text_only else modality_inputs(arguments)
        if text_only and isinstance(embeddings, Tensor):
            ids = torch.zeros(embeddings.shape[:2], device=embeddings.device)
        if ids is None:
            ids = self._ids_of(embeddings, cache)
            flags = self._places(ids, given) if given else self.layout.modality_flags(ids)
            self.begin(flags, cache, mask=arguments.get("attention_mask"))
        elif given:
            self.begin(self._places(ids, given), cache, mask=arguments.get("attention_mask"))
            self._check_found(given, ids, cache)
        elif self._resumed is not None and not _length(cache):
            self.begin(self._resumed, cache, mask=arguments.get("attention_mask"))
        else:  # a pass of text alone, such as decoding, reads nothing from the device
            flags = torch.zeros_like(ids, dtype=torch.bool)
            self.begin(flags, cache, counts=[0] * len(ids))

    def _places(self, ids: Tensor, given: Collection[str]) -> Tensor:
        """(batch, length) bool: which positions hold the features that come with a pass."""
        vision = {name for name in given if kind_of(name) != "audio"}
        if len(vision) == len(given):
            return self._places_of_vision(ids, vision)
        at_sounds = self.layout.modality_flags(ids, ["audio"])
        return at_sounds | self._places_of_vision(ids, vision) if vision else at_sounds

    def _places_of_vision(self, ids: Tensor, vision: Collection[str]) -> Tensor:
        """The positions of images and videos.

        A model without an argument for videos takes them as images. With one, videos lie at video
        ids; those of GLM-4V lie at image ids.
        """
        videos = {name for name in vision if "video" in name}
        if not self._takes_videos or (videos and len(vision) > len(videos)):
            return self.layout.modality_flags(ids, ["image", "video"])
        at_images = self.layout.modality_flags(ids, ["image"])
        if not videos:
            return at_images
        at_videos = self.layout.modality_flags(ids, ["video"])
        if bool(at_images.any()) and bool(at_videos.any()):
            raise BridgeError(
                f"the model was called with {', '.join(sorted(videos))} and without images, but "
                f"its input_ids hold image tokens {list(self.layout.image_ids)} and video tokens "
                f"{list(self.layout.video_ids)}, so that it is not known what to skip"
            )
        return at_images | at_videos

    def _check_found(self, given: dict[str, list[Tensor]], ids: Tensor, cache: Any) -> None:
        """Refuse the first pass of a prompt with pixels or sounds whose places are unknown."""
        audio = {name: value for name, value in given.items() if kind_of(name) == "audio"}
        vision = {name: value for name, value in given.items() if name not in audio}
        if _length(cache) or (self.current.has_modality and not (audio and vision)):
            return
        known = (vision, "vision", self.layout.vision_ids), (audio, "audio", self.layout.audio_ids)
        for named, kind, values in known:
            if named.keys() <= set(MODALITIES):  # encoded beforehand for all chunks of a prompt
                continue
            some = any(bool(tensor.any()) for tensors in named.values() for tensor in tensors)
            if some and not set(values).intersection(ids.unique().tolist()):
                raise BridgeError(
                    f"the model was called with {', '.join(sorted(named))}, but none of its "
                    f"input_ids is one of its {kind} tokens {list(values)}, so that it is not "
                    "known what to skip"
                )

    def _ids_of(self, embeddings: Any, cache: Any) -> Tensor:
        """The ids of an embedded prompt, which `generate` was called with."""
        prompt, start = self._prompt(), _length(cache)
        if isinstance(embeddings, Tensor) and prompt is not None:
            ids = prompt.of_pass(start, embeddings.shape[1])
            if ids.shape[1] == embeddings.shape[1] and len(embeddings) % len(ids) == 0:
                return ids.repeat_interleave(len(embeddings) // len(ids), dim=0)
        raise BridgeError(
            "while layers are skipped the model must be called with input_ids, not only "
            "inputs_embeds: modality positions are derived from the ids"
        )

    def _prompt(self) -> _Prompt | None:
        """The prompt of the innermost running `generate` of this thread, if its ids are known."""
        return next((p for p in reversed(self._thread.prompts) if p is not None), None)

    def _generate(self, generate: Forward, *args: Any, **kwargs: Any) -> Any:
        """Replaces `generate`: it remembers the ids of the prompt."""
        arguments = bound(generate, args, kwargs)
        check_cache_name(_cache_named(generate, arguments))
        with self._rotary.alone():
            self._rotary.recall(arguments.get("past_key_values"), fresh=False)
            self._thread.prompts.append(_prompt_of(arguments))
            try:
                return generate(*args, **kwargs)
            finally:
                self._thread.prompts.pop()


def _cache_named(generate: Forward, arguments: dict[str, Any]) -> str:
    """The `cache_implementation` of a call of `generate`: its own, or that of a configuration."""
    model = getattr(generate, "__self__", None)
    configs = arguments.get("generation_config"), getattr(model, "generation_config", None)
    named = (getattr(config, "cache_implementation", None) for config in configs)
    return str(arguments.get("cache_implementation") or next(filter(None, named), None) or "")


def _prompt_of(arguments: dict[str, Any]) -> _Prompt | None:
    """The prompt of a call of `generate`; with a cache its ids may be all ids or the new ones."""
    named = (arguments.get(name) for name in ("input_ids", "inputs"))
    ids = next((ids for ids in named if isinstance(ids, Tensor) and ids.dim() == 2), None)
    if ids is None:
        return None
    mask, end = arguments.get("attention_mask"), ids.shape[1]
    if isinstance(mask, Tensor) and mask.dim() == 2:
        end = mask.shape[1]
    return _Prompt(ids, end)


def _refuse_continuous_batching(_: Forward, *args: Any, **kwargs: Any) -> None:
    raise BridgeError(
        "continuous batching (paged attention) is not supported while layers are skipped; call "
        "generate with another cache"
    )


def _refuse_tracing() -> None:
    """A graph keeps the places of one prompt, and what it skips outlives the block."""
    if torch._C._get_tracing_state() is not None or torch.compiler.is_exporting():
        raise BridgeError(
            "the model was traced or exported while layers are skipped, and the graph would skip "
            "at the same places for every prompt, also after the block; write a smaller model "
            "with `skipit prune` and export that"
        )


def bound(function: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name."""
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    return dict(zip(names, args, strict=False)) | kwargs


def _cache_of(output: Any) -> Cache | None:
    """The cache that a pass made, of an output with names or without."""
    parts = output if isinstance(output, tuple) else (getattr(output, "past_key_values", None),)
    return next((part for part in parts if isinstance(part, Cache)), None)


def _length(cache: Any) -> int:
    return 0 if cache is None else int(cache.get_seq_length())
