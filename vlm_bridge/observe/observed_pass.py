"""The values of one forward pass: token groups, norms, attention mass, sampled states.

Values stay on the device that computed them until one transfer per device after the pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.layout import MODALITIES, TOKEN_GROUPS, Layout
from vlm_bridge.observe.reservoir import Reservoir

#: Token groups that a profile reports: all but padding.
PROFILED = tuple(group for group in TOKEN_GROUPS if group != "pad")

_norm = torch.linalg.vector_norm


@dataclass(frozen=True)
class Candidates:
    """Tokens of one group that may enter the reservoir; `rows` index the pass's samples."""

    token_group: str
    rows: slice
    priority: NDArray[np.float64]
    item: NDArray[np.int64]
    token: NDArray[np.int64]


class ObservedPass:
    """One pass: the group of each token, and the values from the hooks on their devices."""

    def __init__(
        self,
        layout: Layout,
        inputs: Mapping[str, Tensor],
        reservoir: Reservoir | None,
        items: Sequence[int],
    ) -> None:
        codes = layout.token_groups(inputs["input_ids"], inputs.get("attention_mask"))
        self.codes: NDArray[np.int64] = codes.cpu().numpy()
        features = np.isin(self.codes, [TOKEN_GROUPS.index(group) for group in MODALITIES])
        self._real = self.codes != TOKEN_GROUPS.index("pad")
        #: The queries of VAR: other tokens that come after some modality token.
        self.asking = (features.cumsum(1) > 0) & ~features & self._real
        self.token_groups = [g for g in PROFILED if (self.codes == TOKEN_GROUPS.index(g)).any()]
        self.queries = _Copies(self._queries().to(inputs["input_ids"].device))
        self.candidates: list[Candidates] = []
        self._keys = _Copies(torch.from_numpy(features[..., None].astype(np.float32)))
        self._rows: _Copies | None = None
        self._projection: _Copies | None = None
        if reservoir is not None:
            self._rows = _Copies(torch.from_numpy(self._choose(reservoir, items)))
            matrix = reservoir.projection(layout.text_config.hidden_size)
            self._projection = None if matrix is None else _Copies(matrix)
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
        item, token = np.zeros((2, *self.codes.shape), dtype=np.int64)
        priority = np.zeros(self.codes.shape)
        for row, number in enumerate(items):
            real = self._real[row]
            item[row], token[row, real] = number, np.arange(real.sum())
            priority[row, real] = reservoir.priorities(number, int(real.sum()))
        places, start = [], 0
        for group in self.token_groups:
            in_group = self.codes == TOKEN_GROUPS.index(group)
            flat = np.flatnonzero(in_group & (priority <= reservoir.bar(group)))
            flat = flat[np.argsort(priority.flat[flat])[: reservoir.rows]]
            rows = slice(start, start := start + len(flat))
            drawn = (priority.flat[flat], item.flat[flat], token.flat[flat])
            self.candidates.append(Candidates(group, rows, *drawn))
            places.append(flat)
        return np.concatenate(places)

    def on_states(self, layer: int, before: Tensor, after: Tensor) -> None:
        """Store norms, update norm and product of a layer's input and output, and samples."""
        x, y = before.float(), after.float()
        parts = [_norm(x, dim=-1), _norm(y, dim=-1), _norm(y - x, dim=-1), (x * y).sum(-1)]
        self._geometry[layer] = torch.stack(parts)
        if self._rows is not None:
            self._samples[layer] = self._sample(x, self._rows)
            if layer == self._n_layers - 1:
                self._samples[layer + 1] = self._sample(y, self._rows)

    def _sample(self, states: Tensor, rows: _Copies) -> Tensor:
        sample = states.flatten(0, 1).index_select(0, rows.on(states.device))
        return sample if self._projection is None else sample @ self._projection.on(states.device)

    def on_inserted(self, layer: int, previous: Tensor, before: Tensor) -> None:
        """Store the relative norm of the features added between two layers."""
        output = previous.float()
        self._inserted[layer] = _norm(before.float() - output, dim=-1) / _norm(output, dim=-1)

    def on_attention(self, layer: int, probabilities: Tensor) -> None:
        """Store the attention mass of the asking queries on modality keys, mean over heads."""
        by_query = probabilities.mean(1)  # (batch, k, length)
        self._mass[layer] = (by_query @ self._keys.on(by_query.device))[..., 0]

    def arrived(self) -> tuple[NDArray[Any], list[NDArray[Any]], list[NDArray[Any]], NDArray[Any]]:
        """Norms and products, attention masses, inserted norms and samples, on the host.

        Shapes: (4, layers, batch, length), (batch, length) per layer twice, (layers + 1, n, width).
        """
        layers = range(self._n_layers)
        for table, name in ((self._geometry, "states"), (self._mass, "attention")):
            missing = [layer for layer in layers if layer not in table]
            if missing:
                raise BridgeError(
                    f"the {name} of layer {missing[0]} cannot be observed: it does not run the "
                    "way transformers' layers do"
                )
        tables = (self._geometry, self._mass, self._inserted, self._samples)
        places = [(number, layer) for number, table in enumerate(tables) for layer in table]
        host = dict(zip(places, _to_host([tables[n][i] for n, i in places]), strict=True))
        geometry = np.stack([host[0, layer] for layer in layers], axis=1).astype(np.float64)
        masses = np.zeros((self._n_layers, *self.codes.shape))
        for layer in layers:
            masses[layer, self.asking] = host[1, layer][self._filled]
        zeros = np.zeros(self.codes.shape)
        inserted = [host.get((2, layer), zeros) for layer in layers]
        self._check_nothing_hidden(geometry)
        samples = [host[3, state] for state in sorted(self._samples)]
        return geometry, list(masses), inserted, np.stack(samples) if samples else zeros

    def _check_nothing_hidden(self, geometry: NDArray[np.float64]) -> None:
        """Refuse a tensor changed in place between layers: the same tensor with another norm."""
        for layer in range(1, self._n_layers):
            came, left = geometry[0, layer][self._real], geometry[1, layer - 1][self._real]
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
    arrays: dict[int, NDArray[np.float32]] = {}
    for device in dict.fromkeys(tensor.device for tensor in tensors):
        here = [i for i, tensor in enumerate(tensors) if tensor.device == device]
        flat = torch.cat([tensors[i].float().reshape(-1) for i in here]).cpu().numpy()
        ends = np.cumsum([tensors[i].numel() for i in here])[:-1]
        for i, part in zip(here, np.split(flat, ends), strict=True):
            arrays[i] = part.reshape(tuple(tensors[i].shape))
    return [arrays[i] for i in range(len(tensors))]
