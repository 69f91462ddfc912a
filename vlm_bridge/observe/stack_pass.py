"""The values of one forward pass through a stack that holds no modality tokens beside text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.layout import TOKEN_GROUPS
from vlm_bridge.model.stacks import Stack
from vlm_bridge.plan.stacks import STACKS

_norm = torch.linalg.vector_norm


class StackPass:
    """One pass of a batch: norms and products of the states of every layer of a stack.

    All positions of an encoder are of its token group, but padding where `codes` name it. An
    encoder may run on another number of rows than there are sequences, such as all patches of all
    images in one row; then it is known whose they are only if the batch is about one cluster.

    Args:
        stack: the stack that is observed.
        clusters: the independent unit of every sequence.
        codes: (batch, length) indices into `TOKEN_GROUPS`, if they are known.
    """

    def __init__(self, stack: Stack, clusters: Sequence[str], codes: Tensor | None = None) -> None:
        self._stack, self._clusters, self._codes = stack, list(clusters), codes
        self._geometry: dict[int, list[Tensor]] = {}

    def on_states(self, layer: int, before: Tensor, after: Tensor) -> None:
        """Store norms, update norm and product of a layer's input and output."""
        x, y = (states.float().reshape(-1, *states.shape[-2:]) for states in (before, after))
        parts = [_norm(x, dim=-1), _norm(y, dim=-1), _norm(y - x, dim=-1), (x * y).sum(-1)]
        self._geometry.setdefault(layer, []).append(torch.stack(parts))

    def by_group(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.str_]]]:
        """Token group -> (4, layers, n) norms and products, and (n,) clusters of its rows."""
        layers = range(self._stack.n_layers)
        if missing := [layer for layer in layers if layer not in self._geometry]:
            raise BridgeError(
                f"the states of layer {missing[0]} of the {STACKS[self._stack.name]} cannot be "
                "observed: the batch does not run it"
            )
        runs = [self._geometry[layer] for layer in layers]
        codes, clusters = self._codes_of(runs[0]), self._clusters_of(runs[0])
        flat = [torch.cat([part.flatten(1) for part in parts], dim=1) for parts in runs]
        table = np.stack([part.double().cpu().numpy() for part in flat], axis=1)
        found = {}
        for group in (name for name in TOKEN_GROUPS if name != "pad"):
            rows = codes == TOKEN_GROUPS.index(group)
            if rows.any():
                found[group] = (table[..., rows], clusters[rows])
        return found

    def _codes_of(self, runs: list[Tensor]) -> NDArray[np.int64]:
        shapes = [tuple(part.shape[1:]) for part in runs]
        if self._codes is not None and shapes == [tuple(self._codes.shape)]:
            return self._codes.cpu().numpy().reshape(-1)
        rows = sum(int(np.prod(shape)) for shape in shapes)
        return np.full(rows, TOKEN_GROUPS.index(self._stack.group))

    def _clusters_of(self, runs: list[Tensor]) -> NDArray[np.str_]:
        shapes = [tuple(part.shape[1:]) for part in runs]
        if len(runs) == 1 and shapes[0][0] == len(self._clusters):
            return np.repeat(self._clusters, shapes[0][1])
        if len(set(self._clusters)) == 1:
            return np.repeat(self._clusters[:1], sum(int(np.prod(shape)) for shape in shapes))
        raise BridgeError(
            f"the {STACKS[self._stack.name]} runs on rows that are not one for each sequence, so "
            "that it is not known which image they are of; give batch_size=1"
        )
