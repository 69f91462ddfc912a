"""Sums over forward passes, per layer and token group, updated pass by pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from estimators import MeanAccumulator, PairAccumulator, PairRows, Profile
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.encoder_decoder import with_decoder_start, with_own_answer
from vlm_bridge.model.finite import finite
from vlm_bridge.model.layout import TOKEN_GROUPS
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.hooks import capturing_attention, capturing_states
from vlm_bridge.observe.observed_pass import PROFILED, ObservedPass
from vlm_bridge.observe.reservoir import Reservoir
from vlm_bridge.observe.stack_pass import StackPass
from vlm_bridge.plan.stacks import DECODER, STACKS

#: Name of the attention mass on modality keys in a `Profile`.
VAR = "var"
#: Name of |input of l - output of l - 1| / |output of l - 1| in a `Profile`.
INSERTED = "relative_inserted_norm"
#: Tokens of its own answer on which the decoder of an encoder-decoder is profiled, at most.
OWN_ANSWER = 64

Arrays = dict[str, NDArray[np.generic]]


class Collector:
    """Sums of every layer and token group over passes with any inputs, video and audio too.

    Args:
        n_layers: number of layers of the stack.
        reservoir: filled with states during the passes, if given; of decoder-only models.
        stack: the stack that is observed, one of `vlm.layout.stacks`.

    Example:
        >>> collector = Collector(vlm.layout.n_layers)  # doctest: +SKIP
        >>> collector.run(vlm, inputs, clusters=["clip 1", "clip 2"])  # doctest: +SKIP
        >>> collector.profile("my model").groups  # doctest: +SKIP
        ('text', 'video', 'special')
    """

    def __init__(
        self, n_layers: int, reservoir: Reservoir | None = None, stack: str = DECODER
    ) -> None:
        self.n_layers, self.reservoir, self.stack = n_layers, reservoir, stack
        kinds = {"pairs": PairAccumulator, VAR: MeanAccumulator, INSERTED: MeanAccumulator}
        #: kind of sum -> token group -> one accumulator per layer
        self._sums: dict[str, dict[str, list[Any]]] = {
            name: {group: [kind() for _ in range(n_layers)] for group in PROFILED}
            for name, kind in kinds.items()
        }
        self._clusters: set[str] = set()
        self._n_items = 0

    @torch.no_grad()
    def run(
        self,
        vlm: VLM,
        inputs: Mapping[str, Tensor],
        clusters: Sequence[str],
        items: Sequence[int] | None = None,
    ) -> None:
        """Run the model once on `inputs`, and add norms, distances and attention to the sums.

        Args:
            vlm: the model.
            inputs: the model's inputs, with input_ids (batch, length) unless it is an
                encoder-decoder.
            clusters: the independent unit (image, clip, text) of every sequence, complete in one
                pass.
            items: an index of every sequence, for the reservoir (default: consecutive).

        Raises:
            BrokenModel: a state is NaN or infinite.
            BridgeError: a state has no direction, attention or states cannot be observed.
        """
        n = len(next(iter(inputs.values())) if "input_ids" not in inputs else inputs["input_ids"])
        if len(clusters) != n:
            raise BridgeError(f"{len(clusters)} clusters for {n} sequences")
        if items is None:
            items = range(self._n_items, self._n_items + len(clusters))
        self._n_items += len(clusters)
        self._clusters |= set(clusters)
        if self.stack != DECODER or vlm.layout.encoder_decoder:
            self._run_stack(vlm, inputs, clusters)
            return
        now = ObservedPass(vlm.layout, inputs, self.reservoir, items)
        with (
            capturing_states(vlm, now.on_states, now.on_inserted),
            capturing_attention(vlm, now.on_attention, now.queries.on),
        ):
            # without logits
            finite(vlm, inputs, lambda: vlm.layout.base(**inputs, use_cache=False), names=clusters)
        codes = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
        ids = np.array([codes[name] for name in clusters])[:, None]
        self._add(now, np.broadcast_to(ids, now.codes.shape))

    def _run_stack(self, vlm: VLM, inputs: Mapping[str, Tensor], clusters: Sequence[str]) -> None:
        """`run` for an encoder, or for the decoder of an encoder-decoder on its own answer."""
        if self.reservoir is not None:
            raise BridgeError(
                "a sample of states is drawn from decoder-only models; profile this stack without"
            )
        stack, layout = vlm.layout.stack(self.stack), vlm.layout
        codes = None
        if self.stack != DECODER:
            inputs = with_decoder_start(vlm, inputs)
        else:
            inputs = with_own_answer(vlm, inputs, OWN_ANSWER)
            named = (inputs[f"decoder_{name}"] for name in ("input_ids", "attention_mask"))
            codes = layout.token_groups(*named)
        if stack.group == "text" and self.stack != DECODER:
            codes = layout.token_groups(inputs["input_ids"], inputs.get("attention_mask"))
        now = StackPass(stack, clusters, codes)
        with capturing_states(vlm, now.on_states, stack=self.stack):
            finite(vlm, inputs, lambda: layout.base(**inputs, use_cache=False), names=clusters)
        for group, (geometry, rows_of) in now.by_group().items():
            numbers = np.unique(rows_of, return_inverse=True)[1]
            for layer, pair in enumerate(_pair_rows(geometry, group)):
                self._sums["pairs"][group][layer].update(pair, numbers)

    def _add(self, now: ObservedPass, clusters: NDArray[np.integer]) -> None:
        geometry, masses, inserted, samples = now.arrived()
        for group in now.token_groups:
            rows = now.codes == TOKEN_GROUPS.index(group)
            for layer, pair in enumerate(_pair_rows(geometry[..., rows], group)):
                self._sums["pairs"][group][layer].update(pair, clusters[rows])
                self._sums[INSERTED][group][layer].update(inserted[layer][rows], clusters[rows])
            asking = now.asking & rows
            if asking.any():
                for layer, mass in enumerate(masses):
                    self._sums[VAR][group][layer].update(mass[asking], clusters[asking])
        if self.reservoir is not None:
            for c in now.candidates:
                states = samples[:, c.rows]
                self.reservoir.add(c.token_group, c.priority, c.item, c.token, states)

    def to_arrays(self) -> Arrays:
        """Everything collected, as arrays to store or send."""
        arrays: Arrays = {}
        for prefix, layers in self._layers():
            parts = [layer.to_arrays() for layer in layers]
            arrays |= {prefix + name: np.stack([p[name] for p in parts]) for name in parts[0]}
        if self.reservoir is not None:
            arrays |= {f"reservoir/{k}": v for k, v in self.reservoir.to_arrays().items()}
        return arrays

    def add_arrays(self, arrays: Arrays) -> None:
        """Add the `to_arrays` of another collector of the same run."""
        for prefix, layers in self._layers():
            parts = _under(prefix, arrays)
            for index, layer in enumerate(layers):
                part = type(layer).from_arrays({k: v[index] for k, v in parts.items()})
                layers[index] = layer.merge(part)
        if self.reservoir is not None:
            self.reservoir.add_arrays(_under("reservoir/", arrays))

    def _layers(self) -> list[tuple[str, list[Any]]]:
        """The accumulators of each kind and token group, with the prefix of their arrays."""
        sums = self._sums.items()
        return [(f"{kind}/{group}/", layers) for kind, t in sums for group, layers in t.items()]

    def profile(self, model: str, *, n_images: int | None = None, data_hash: str = "") -> Profile:
        """The `Profile` of everything collected.

        `model` and `data_hash` are only recorded; `n_images` is the number of independent units
        (default: of the distinct clusters that this collector ran).

        Raises:
            ValueError: nothing was collected.
        """
        changed = [
            layer
            for layer in range(self.n_layers)
            if any(m[layer].n_rows and m[layer].mean().value for m in self._sums[INSERTED].values())
        ]
        names = (VAR, INSERTED) if changed else (VAR,)
        profile = Profile.build(
            model,
            self._sums["pairs"],
            extra={g: {name: self._sums[name][g] for name in names} for g in PROFILED},
            n_images=len(self._clusters) if n_images is None else n_images,
            data_hash=data_hash,
        )
        if self.stack != DECODER:
            of = f"; layers are those of the {STACKS[self.stack]}"
            profile = replace(profile, index_convention=profile.index_convention + of)
        if not changed:
            return profile
        note = (
            f"; features are added between layers, so that the input of layers "
            f"{', '.join(map(str, changed))} is not the output of the layer before (measure "
            f"'{INSERTED}')"
        )
        return replace(profile, index_convention=profile.index_convention + note)


def _under(prefix: str, arrays: Arrays) -> Arrays:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _pair_rows(geometry: NDArray[np.float64], token_group: str) -> list[PairRows]:
    """Each layer's `PairRows` from |x|, |y|, |y - x|, <x, y> of every row: (4, layers, n).

    The cosine distance comes from the chord (|y - x|^2 - (|y| - |x|)^2) / 2|x||y| where that
    loses less in float32 than 1 - <x, y> / |x||y|: for nearly equal states.
    """
    pairs = []
    for layer, (x, y, step, product) in enumerate(geometry.transpose(1, 0, 2)):
        if not (np.isfinite([x, y, step, product]).all() and (x > 0).all() and (y > 0).all()):
            raise BridgeError(
                f"layer {layer}: a state of the {token_group} tokens is zero or not finite, so "
                "its direction is undefined"
            )
        chord = (step**2 - (y - x) ** 2) / (2 * x * y)
        cosine = np.where(step**2 < x * y, chord, 1 - product / (x * y))
        pairs.append(PairRows(np.clip(cosine, 0.0, 2.0), y / x, step / x))
    return pairs
