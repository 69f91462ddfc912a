"""Reduces the passes of a model to sums per layer and token group, as they stream by.

Inside a pass every number stays where it was computed; one transfer per pass (and device)
brings them over when it is finished.
"""

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
from vlm_bridge.model.layout import TOKEN_GROUPS, Layout
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.hooks import capturing_attention, capturing_states
from vlm_bridge.observe.reservoir import Reservoir

#: Groups a profile reports; padding is nobody's state.
PROFILED = tuple(group for group in TOKEN_GROUPS if group != "pad")
VISION = ("image", "video")
#: Name of the attention mass on vision keys in a `Profile`.
VAR = "var"
#: Name of |input of l - output of l - 1| / |output of l - 1| in a `Profile`.
INSERTED = "relative_inserted_norm"

Arrays = dict[str, NDArray[np.generic]]


class Collector:
    """Sums of every layer and token group over the passes it was shown.

    `profile` fills one from questions about images. With `run` it takes any inputs the model
    takes, so video and audio too.

    Args:
        n_layers: depth of the decoder.
        reservoir: filled on the way, if given.

    Example:
        >>> collector = Collector(vlm.layout.n_layers)  # doctest: +SKIP
        >>> collector.run(vlm, inputs, clusters=["clip 1", "clip 2"])  # doctest: +SKIP
        >>> collector.profile("my model").groups  # doctest: +SKIP
        ('text', 'video', 'special')
    """

    def __init__(self, n_layers: int, reservoir: Reservoir | None = None) -> None:
        self.n_layers = n_layers
        self.reservoir = reservoir
        self.pairs = {g: [PairAccumulator() for _ in range(n_layers)] for g in PROFILED}
        self.means = {
            name: {g: [MeanAccumulator() for _ in range(n_layers)] for g in PROFILED}
            for name in (VAR, INSERTED)
        }
        self._units: set[str] = set()
        self._items = 0

    @torch.no_grad()
    def run(
        self,
        vlm: VLM,
        inputs: Mapping[str, Tensor],
        clusters: Sequence[str],
        items: Sequence[int] | None = None,
    ) -> None:
        """One pass of the model over `inputs`, reduced.

        Args:
            vlm: the model.
            inputs: what the model takes, input_ids (batch, length) among it.
            clusters: the independent unit of every sequence (its image, its clip); all
                sequences of a unit come in one pass.
            items: an index of every sequence, for the reservoir; counted on by default.

        Raises:
            BridgeError: a state has no direction, attention or states cannot be observed.
        """
        if len(clusters) != len(inputs["input_ids"]):
            raise BridgeError(
                f"{len(clusters)} clusters were given for {len(inputs['input_ids'])} sequences"
            )
        if items is None:
            items = range(self._items, self._items + len(clusters))
        self._items += len(clusters)
        self._units |= set(clusters)
        now = _Pass(vlm.layout, inputs, self.reservoir, items)
        with (
            capturing_states(vlm, now.on_states, now.on_inserted),
            capturing_attention(vlm, now.on_attention, now.queries.on),
        ):
            vlm.layout.base(**inputs, use_cache=False)  # no logits: they are not needed
        codes = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
        ids = np.array([codes[name] for name in clusters])[:, None]
        self._add(now, np.broadcast_to(ids, now.codes.shape))

    def _add(self, now: _Pass, clusters: NDArray[np.integer]) -> None:
        states, masses, inserted, samples = now.arrived()
        for group in now.groups:
            rows = now.codes == TOKEN_GROUPS.index(group)
            ids = clusters[rows]
            for layer, pair in enumerate(_pair_rows(states[..., rows], group)):
                self.pairs[group][layer].update(pair, ids)
                self.means[INSERTED][group][layer].update(inserted[layer][rows], ids)
            asking = now.asking & rows
            if asking.any():
                for layer, mass in enumerate(masses):
                    self.means[VAR][group][layer].update(mass[asking], clusters[asking])
        if self.reservoir is not None:
            for chosen in now.chosen:
                part = samples[:, chosen.rows]
                self.reservoir.add(chosen.group, chosen.priority, chosen.item, chosen.token, part)

    def to_arrays(self) -> Arrays:
        """Everything collected, as arrays to store or send."""
        found: Arrays = {}
        for kind, table in self._tables():
            for group, layers in table.items():
                parts = [layer.to_arrays() for layer in layers]
                for name in parts[0]:
                    found[f"{kind}/{group}/{name}"] = np.stack([part[name] for part in parts])
        if self.reservoir is not None:
            kept = self.reservoir.to_arrays()
            found |= {f"reservoir/{name}": value for name, value in kept.items()}
        return found

    def add_arrays(self, arrays: Arrays) -> None:
        """Add what another collector of the same run collected, from its `to_arrays`."""
        for kind, table in self._tables():
            for group, layers in table.items():
                start = f"{kind}/{group}/"
                mine = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
                for index, layer in enumerate(layers):
                    other = type(layer).from_arrays({k: v[index] for k, v in mine.items()})
                    layers[index] = layer.merge(other)
        if self.reservoir is not None:
            start = "reservoir/"
            self.reservoir.add_arrays(
                {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
            )

    def _tables(self) -> list[tuple[str, dict[str, list[Any]]]]:
        return [("pairs", self.pairs), *self.means.items()]

    def profile(self, model: str, *, n_images: int | None = None, data_hash: str = "") -> Profile:
        """The `Profile` of what was collected.

        Args:
            model: name for the record.
            n_images: independent units (default: those this collector was shown itself).
            data_hash: for the record.

        Raises:
            ValueError: nothing was collected.
        """
        moved = [
            layer
            for layer in range(self.n_layers)
            if any(m[layer].n_rows and m[layer].mean().value for m in self.means[INSERTED].values())
        ]
        names = (VAR, INSERTED) if moved else (VAR,)
        found = Profile.build(
            model,
            self.pairs,
            extra={group: {name: self.means[name][group] for name in names} for group in PROFILED},
            n_images=len(self._units) if n_images is None else n_images,
            data_hash=data_hash,
        )
        if not moved:
            return found
        note = (
            f"; features are added between layers, so that the input of layers "
            f"{', '.join(map(str, moved))} is not the output of the layer before (measure "
            f"'{INSERTED}')"
        )
        return replace(found, index_convention=found.index_convention + note)


class _Chosen:
    """Tokens of one group that may enter the reservoir."""

    def __init__(self, group: str, rows: slice, found: NDArray[np.float64]) -> None:
        self.group, self.rows = group, rows
        self.priority = found[:, 0]
        self.item, self.token = found[:, 1].astype(np.int64), found[:, 2].astype(np.int64)


class _Pass:
    """One pass: where each token belongs, and what the hooks found, still on its device."""

    def __init__(
        self,
        layout: Layout,
        inputs: Mapping[str, Tensor],
        reservoir: Reservoir | None,
        items: Sequence[int],
    ) -> None:
        groups = layout.token_groups(inputs["input_ids"], inputs.get("attention_mask"))
        self.codes: NDArray[np.int64] = groups.cpu().numpy()
        vision = np.isin(self.codes, [TOKEN_GROUPS.index(group) for group in VISION])
        pad = self.codes == TOKEN_GROUPS.index("pad")
        #: Queries that can see vision and are none: those VAR is about.
        self.asking = (vision.cumsum(1) > 0) & ~vision & ~pad
        self.groups = [g for g in PROFILED if (self.codes == TOKEN_GROUPS.index(g)).any()]
        self.queries = _Copies(self._queries().to(inputs["input_ids"].device))
        self.chosen: list[_Chosen] = []
        self._vision = _Copies(torch.from_numpy(vision[..., None].astype(np.float32)))
        self._rows: _Copies | None = None
        self._project: _Copies | None = None
        if reservoir is not None:
            index = self._choose(reservoir, items)
            self._rows = _Copies(torch.from_numpy(index))
            matrix = reservoir.projection(layout.text_config.hidden_size)
            self._project = None if matrix is None else _Copies(matrix)
        self._geometry: dict[int, Tensor] = {}
        self._mass: dict[int, Tensor] = {}
        self._inserted: dict[int, Tensor] = {}
        self._samples: dict[int, Tensor] = {}
        self._n_layers = layout.n_layers

    def _queries(self) -> Tensor:
        """(batch, k) places of the asking queries; short rows are filled with place 0."""
        counts = self.asking.sum(1)
        self._filled = np.arange(max(1, counts.max())) < counts[:, None]
        index = np.zeros(self._filled.shape, dtype=np.int64)
        index[self._filled] = self.asking.nonzero()[1]
        return torch.from_numpy(index)

    def _choose(self, reservoir: Reservoir, items: Sequence[int]) -> NDArray[np.int64]:
        """Flat places of the tokens whose priority is low enough, group by group."""
        real = self.codes != TOKEN_GROUPS.index("pad")
        facts = np.zeros((*self.codes.shape, 3))  # priority, item, place in the prompt
        for row, item in enumerate(items):
            count = int(real[row].sum())
            facts[row, real[row], 0] = reservoir.priorities(item, count)
            facts[row, real[row], 1] = item
            facts[row, real[row], 2] = np.arange(count)
        places, start = [], 0
        for group in self.groups:
            in_group = self.codes == TOKEN_GROUPS.index(group)
            flat = np.flatnonzero(in_group & (facts[..., 0] <= reservoir.bar(group)))
            flat = flat[np.argsort(facts.reshape(-1, 3)[flat, 0])[: reservoir.rows]]
            rows = slice(start, start := start + len(flat))
            self.chosen.append(_Chosen(group, rows, facts.reshape(-1, 3)[flat]))
            places.append(flat)
        return np.concatenate(places)

    def on_states(self, layer: int, before: Tensor, after: Tensor) -> None:
        x, y = before.float(), after.float()
        norm = torch.linalg.vector_norm
        parts = [norm(x, dim=-1), norm(y, dim=-1), norm(y - x, dim=-1), (x * y).sum(-1)]
        self._geometry[layer] = torch.stack(parts)
        if self._rows is not None:
            self._samples[layer] = self._sample(x)
            if layer == self._n_layers - 1:
                self._samples[layer + 1] = self._sample(y)

    def _sample(self, states: Tensor) -> Tensor:
        assert self._rows is not None
        picked = states.flatten(0, 1).index_select(0, self._rows.on(states.device))
        if self._project is not None:
            picked = picked @ self._project.on(states.device)
        return picked

    def on_inserted(self, layer: int, previous: Tensor, before: Tensor) -> None:
        norm = torch.linalg.vector_norm
        was = previous.float()
        self._inserted[layer] = norm(before.float() - was, dim=-1) / norm(was, dim=-1)

    def on_attention(self, layer: int, probabilities: Tensor) -> None:
        by_query = probabilities.mean(1)  # (batch, k, length)
        self._mass[layer] = (by_query @ self._vision.on(by_query.device))[..., 0]

    def arrived(
        self,
    ) -> tuple[NDArray[Any], list[NDArray[Any]], list[NDArray[Any]], NDArray[Any]]:
        """What the hooks found, on the host in one transfer per device.

        Returns:
            Norms, update norms and products (4, layers, batch, length); of every layer the
            attention mass (batch, length) and what was inserted before it (batch, length);
            the sampled states (layers + 1, n, width).
        """
        layers = range(self._n_layers)
        for found, what in ((self._geometry, "states"), (self._mass, "attention")):
            missing = [layer for layer in layers if layer not in found]
            if missing:
                raise BridgeError(
                    f"the {what} of layer {missing[0]} cannot be observed: it does not run the "
                    "way transformers' layers do"
                )
        tables = (self._geometry, self._mass, self._inserted, self._samples)
        places = [(number, layer) for number, table in enumerate(tables) for layer in table]
        host = dict(zip(places, _to_host([tables[n][i] for n, i in places]), strict=True))
        geometry = np.stack([host[0, layer] for layer in layers], axis=1).astype(np.float64)
        masses = []
        for layer in layers:
            mass = np.zeros(self.codes.shape)
            mass[self.asking] = host[1, layer][self._filled]
            masses.append(mass)
        none = np.zeros(self.codes.shape)
        inserted = [host.get((2, layer), none) for layer in layers]
        self._check_nothing_hidden(geometry)
        samples = [host[3, state] for state in sorted(self._samples)]
        return geometry, masses, inserted, np.stack(samples) if samples else none

    def _check_nothing_hidden(self, geometry: NDArray[np.float64]) -> None:
        """A tensor changed in place between layers is the same tensor with another norm."""
        real = self.codes != TOKEN_GROUPS.index("pad")
        for layer in range(1, self._n_layers):
            came, left = geometry[0, layer][real], geometry[1, layer - 1][real]
            same = np.isclose(came, left, rtol=1e-3, atol=0, equal_nan=True)
            if layer not in self._inserted and not same.all():
                raise BridgeError(
                    f"the states between layers {layer - 1} and {layer} are changed in place, "
                    "so that what is added there cannot be measured"
                )


class _Copies:
    """A tensor and its copies on other devices, each made once."""

    def __init__(self, tensor: Tensor) -> None:
        self._copies = {tensor.device: tensor}

    def on(self, device: torch.device) -> Tensor:
        if device not in self._copies:
            self._copies[device] = next(iter(self._copies.values())).to(device)
        return self._copies[device]


def _to_host(tensors: Sequence[Tensor]) -> list[NDArray[np.float32]]:
    """float32 tensors as arrays, with one transfer per device."""
    found: dict[int, NDArray[np.float32]] = {}
    for device in dict.fromkeys(tensor.device for tensor in tensors):
        here = [i for i, tensor in enumerate(tensors) if tensor.device == device]
        flat = torch.cat([tensors[i].float().reshape(-1) for i in here]).cpu().numpy()
        ends = np.cumsum([tensors[i].numel() for i in here])[:-1]
        for i, part in zip(here, np.split(flat, ends), strict=True):
            found[i] = part.reshape(tuple(tensors[i].shape))
    return [found[i] for i in range(len(tensors))]


def _pair_rows(states: NDArray[np.float64], group: str) -> list[PairRows]:
    """(4, layers, n): |x|, |y|, |y - x|, <x, y> of every row, as what they say about the pair.

    The cosine distance comes from the chord (|y - x|^2 - (|y| - |x|)^2) / 2|x||y| where that
    loses less in float32 than 1 - <x, y> / |x||y|: for nearly equal states.
    """
    found = []
    for layer, (x, y, step, product) in enumerate(states.transpose(1, 0, 2)):
        if not (np.isfinite([x, y, step, product]).all() and (x > 0).all() and (y > 0).all()):
            raise BridgeError(
                f"layer {layer}: a state of the {group} tokens is zero or not finite, so its "
                "direction is undefined"
            )
        chord = (step**2 - (y - x) ** 2) / (2 * x * y)
        cosine = np.where(step**2 < x * y, chord, 1 - product / (x * y))
        found.append(PairRows(np.clip(cosine, 0.0, 2.0), y / x, step / x))
    return found
