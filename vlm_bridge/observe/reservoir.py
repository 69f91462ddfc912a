"""A fixed-size sample of tokens with their state at every depth, for estimators that need rows.

Every token gets a random priority that depends on the seed, the item and the place in its
prompt only; the lowest ones of each token group stay. So the sample is uniform without
replacement, does not depend on batch size or order, and samples of shards merge exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import Tensor

from estimators.profile import INDEX_CONVENTION
from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.files import read_json, write_bytes, write_json

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

STATES, MANIFEST = "states.safetensors", "manifest.json"


@dataclass
class _Kept:
    """The rows of one token group: priority, item, place in the prompt, states."""

    priority: NDArray[np.float64]  # (n,)
    item: Integers  # (n,)
    token: Integers  # (n,)
    states: Floats  # (layers + 1, n, width)

    def take(self, rows: Integers) -> _Kept:
        return _Kept(
            self.priority[rows], self.item[rows], self.token[rows], self.states[:, rows].copy()
        )

    def join(self, other: _Kept) -> _Kept:
        return _Kept(
            np.concatenate([self.priority, other.priority]),
            np.concatenate([self.item, other.item]),
            np.concatenate([self.token, other.token]),
            np.concatenate([self.states, other.states], axis=1),
        )


@dataclass
class Reservoir:
    """What to sample while a profile is taken: pass it to `profile`, then read `samples`.

    Attributes:
        rows: tokens of each group that are kept.
        width: project states to this many dimensions by a seeded Gaussian matrix with
            entries of variance 1 / width, which keeps squared lengths and distances right on
            average; None keeps states whole.
        seed: of priorities and projection.

    Raises:
        BridgeError: rows or width below 1.

    Example:
        >>> reservoir = Reservoir(rows=1000, width=64)
        >>> profile = vb.profile(vlm, items, reservoir=reservoir)  # doctest: +SKIP
        >>> samples = reservoir.samples.save("out/states")  # doctest: +SKIP
        >>> samples.states("image")[0].shape  # doctest: +SKIP
        (1000, 64)
    """

    rows: int
    width: int | None = None
    seed: int = 0
    _kept: dict[str, _Kept] = field(default_factory=dict, repr=False)
    _run: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise BridgeError(f"a reservoir keeps at least one row, got rows={self.rows}")
        if self.width is not None and self.width < 1:
            raise BridgeError(f"states have at least one dimension, got width={self.width}")

    @property
    def settings(self) -> dict[str, Any]:
        """What decides which rows are kept, and how."""
        return {"rows": self.rows, "width": self.width, "seed": self.seed}

    def projection(self, width: int) -> Tensor | None:
        """The (width, self.width) matrix states are multiplied with, or None."""
        if self.width is None:
            return None
        draw = torch.Generator().manual_seed(self.seed)
        matrix = torch.randn(width, self.width, generator=draw)
        return matrix / math.sqrt(self.width)

    def priorities(self, item: int, n_tokens: int) -> NDArray[np.float64]:
        """The priorities of an item's tokens, padding not counted."""
        return np.random.default_rng([self.seed, item]).random(n_tokens)

    def bar(self, group: str) -> float:
        """A token of this group with a priority above does not get in."""
        kept = self._kept.get(group)
        if kept is None or len(kept.priority) < self.rows:
            return np.inf
        return float(kept.priority.max())

    def add(
        self,
        group: str,
        priority: NDArray[np.float64],
        item: Integers,
        token: Integers,
        states: Floats,
    ) -> None:
        """Offer n tokens with their states (layers + 1, n, width)."""
        offered = _Kept(priority, item, token, states)
        if group in self._kept:
            offered = self._kept[group].join(offered)
        lowest = np.argsort(offered.priority, kind="stable")[: self.rows]
        self._kept[group] = offered.take(lowest)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything kept, as arrays to store or send."""
        return {
            f"{group}/{name}": value
            for group, kept in self._kept.items()
            for name, value in vars(kept).items()
        }

    def add_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Offer what another reservoir of the same run and settings kept."""
        for group in dict.fromkeys(name.split("/")[0] for name in arrays):
            fields = ("priority", "item", "token", "states")
            self.add(group, *(arrays[f"{group}/{name}"] for name in fields))

    def finish(self, run: Mapping[str, Any], images: Sequence[str]) -> None:
        """Note where the rows come from: model, data, and the image of every item.

        Raises:
            BridgeError: the reservoir was filled before.
        """
        if self._run:
            raise BridgeError("this reservoir holds the sample of another run; make a new one")
        self._run = {**run, "images": list(images)}

    @property
    def samples(self) -> Samples:
        """What was sampled, ordered by item and place in the prompt.

        Raises:
            BridgeError: no profile was taken with this reservoir yet.
        """
        if not self._run:
            raise BridgeError("nothing was sampled yet; pass the reservoir to profile first")
        found, rows = {}, {}
        for group, kept in sorted(self._kept.items()):
            order = np.lexsort([kept.token, kept.item])
            found[group] = kept.states[:, order]
            rows[group] = [
                {"image": self._run["images"][item], "item": int(item), "token": int(token)}
                for item, token in zip(kept.item[order], kept.token[order], strict=True)
            ]
        return Samples(
            model=self._run["model"],
            data_hash=self._run["data_hash"],
            seed=self.seed,
            projection=None
            if self.width is None
            else f"gaussian to {self.width} dimensions, variance 1/{self.width}, torch seed "
            f"{self.seed}",
            index_convention=INDEX_CONVENTION,
            rows=rows,
            arrays=found,
        )


@dataclass(frozen=True, eq=False)
class Samples:
    """Sampled states on their way to an estimator; in a folder: safetensors and a manifest.

    Attributes:
        model: name of the model.
        data_hash: `items_hash` of the questions.
        seed: of the sample and the projection.
        projection: what was done to the states, None if they are whole.
        index_convention: what a layer index means.
        rows: group -> of every row the image (the independent unit), the item's index in the
            data, and the place of the token in its prompt, padding not counted.
        arrays: group -> states (layers + 1, n, width), float32.
    """

    model: str
    data_hash: str
    seed: int
    projection: str | None
    index_convention: str
    rows: dict[str, list[dict[str, Any]]]
    arrays: dict[str, Floats]

    SCHEMA_VERSION: ClassVar[int] = 1

    def states(self, group: str) -> list[Floats]:
        """State 0 to state L of a token group, each (n, width), as `profile_states` takes them.

        Raises:
            BridgeError: no rows of this group were sampled.
        """
        self._check(group)
        return list(self.arrays[group])

    def images(self, group: str) -> list[str]:
        """The image of every row: the clusters of `profile_states`.

        Raises:
            BridgeError: no rows of this group were sampled.
        """
        self._check(group)
        return [row["image"] for row in self.rows[group]]

    def _check(self, group: str) -> None:
        if group not in self.arrays:
            raise BridgeError(f"no group '{group}' was sampled; there is {', '.join(self.arrays)}")

    def save(self, folder: str | Path) -> Samples:
        """Write the states, then the manifest, into `folder`; returns self.

        Raises:
            BridgeError: the folder cannot be written.
        """
        folder = Path(folder)
        whole = {group: np.ascontiguousarray(states) for group, states in self.arrays.items()}
        write_bytes(folder / STATES, save(whole))
        body = {name: value for name, value in vars(self).items() if name != "arrays"}
        head = {"type": "Samples", "schema_version": self.SCHEMA_VERSION}
        write_json(folder / MANIFEST, {**head, **body})
        return self

    @classmethod
    def load(cls, folder: str | Path) -> Samples:
        """The samples in a folder that `save` wrote.

        Raises:
            BridgeError: a file is missing or broken, another schema version, or manifest and
                states do not belong together.
        """
        folder = Path(folder)
        body = read_json(folder / MANIFEST, "manifest of samples")
        head = (body.pop("type", None), body.pop("schema_version", None))
        if head != ("Samples", cls.SCHEMA_VERSION):
            raise BridgeError(f"{folder} holds no Samples of schema version {cls.SCHEMA_VERSION}")
        try:
            arrays = load_file(folder / STATES)
            found = cls(**body, arrays=arrays)
        except (OSError, SafetensorError, TypeError) as error:
            raise BridgeError(f"cannot read the samples in {folder}: {error}") from None
        counts = {group: len(rows) for group, rows in found.rows.items()}
        if counts != {group: states.shape[1] for group, states in arrays.items()}:
            raise BridgeError(f"{folder}: {MANIFEST} and {STATES} do not belong together")
        return found
