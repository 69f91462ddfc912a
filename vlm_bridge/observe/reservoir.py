"""A fixed-size sample of tokens with their state at every depth, for estimators that need rows.

The priority of a token depends on the seed, the item and its place in the prompt. The tokens of
lowest priority are a uniform sample that depends on neither batch size nor order.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import Tensor

from estimators.profile import INDEX_CONVENTION
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.runtime.files import read_json, write_bytes, write_json
from vlm_bridge.runtime.tensor_files import as_numpy, read_arrays

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

STATES, MANIFEST = "states.safetensors", "manifest.json"
_MANIFEST_BYTES = 2**30  # a row takes about 60


@dataclass
class _Rows:
    """Sampled tokens of one group; `states` are (layers + 1, n, width), all others (n,)."""

    priority: NDArray[np.float64]
    item: Integers
    token: Integers  # place in the prompt
    states: Floats

    def take(self, rows: Integers) -> _Rows:
        states = self.states[:, rows].copy()
        return _Rows(self.priority[rows], self.item[rows], self.token[rows], states)

    def join(self, more: _Rows) -> _Rows:
        names = ("priority", "item", "token", "states")
        pairs = [(getattr(self, name), getattr(more, name)) for name in names]
        return _Rows(*(np.concatenate(pair, axis=int(pair[0].ndim > 1)) for pair in pairs))


@dataclass
class Reservoir:
    """A sample of states that `profile` fills; read `samples` afterwards.

    Attributes:
        rows: tokens sampled of each token group.
        width: project states to this many dimensions by a seeded Gaussian matrix with
            entries of variance 1 / width, which preserves squared lengths and distances on
            average; None stores whole states.
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
    _sampled: dict[str, _Rows] = field(default_factory=dict, repr=False)
    _run: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise BridgeError(f"a reservoir keeps at least one row, got rows={self.rows}")
        if self.width is not None and self.width < 1:
            raise BridgeError(f"states have at least one dimension, got width={self.width}")

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that determine the sample."""
        return {"rows": self.rows, "width": self.width, "seed": self.seed}

    def projection(self, width: int) -> Tensor | None:
        """The (width, self.width) matrix that states are multiplied with, or None."""
        if self.width is None:
            return None
        draw = torch.Generator().manual_seed(self.seed)
        return torch.randn(width, self.width, generator=draw) / math.sqrt(self.width)

    def priorities(self, item: int, n_tokens: int) -> NDArray[np.float64]:
        """The priorities of an item's tokens, padding not counted."""
        return np.random.default_rng([self.seed, item]).random(n_tokens)

    def bar(self, token_group: str) -> float:
        """The highest priority with which a token of this group can still enter."""
        rows = self._sampled.get(token_group)
        full = rows is not None and len(rows.priority) >= self.rows
        return float(rows.priority.max()) if rows is not None and full else np.inf

    def add(
        self,
        token_group: str,
        priority: NDArray[np.float64],
        item: Integers,
        token: Integers,
        states: Floats,
    ) -> None:
        """Offer n tokens with their states (layers + 1, n, width)."""
        rows = _Rows(priority, item, token, states)
        if token_group in self._sampled:
            rows = self._sampled[token_group].join(rows)
        lowest = np.argsort(rows.priority, kind="stable")[: self.rows]
        self._sampled[token_group] = rows.take(lowest)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """The sample as arrays to store or send."""
        return {
            f"{token_group}/{name}": array
            for token_group, rows in self._sampled.items()
            for name, array in vars(rows).items()
        }

    def add_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Offer the `to_arrays` of another reservoir with the same run and settings."""
        for token_group in dict.fromkeys(name.split("/")[0] for name in arrays):
            names = ("priority", "item", "token", "states")
            self.add(token_group, *(arrays[f"{token_group}/{name}"] for name in names))

    def finish(self, run: Mapping[str, Any], images: Sequence[str]) -> None:
        """Record model and data of the rows, and the image of every item; once only."""
        if self._run:
            raise BridgeError("this reservoir holds the sample of another run; make a new one")
        self._run = {**run, "images": list(images)}

    @property
    def samples(self) -> Samples:
        """The sample, ordered by item and place in the prompt.

        Raises:
            BridgeError: no profile was taken with this reservoir yet.
        """
        if not self._run:
            raise BridgeError("nothing was sampled yet; pass the reservoir to profile first")
        arrays, rows = {}, {}
        for token_group, sampled in sorted(self._sampled.items()):
            ordered = sampled.take(np.lexsort([sampled.token, sampled.item]))
            arrays[token_group] = ordered.states
            rows[token_group] = [
                {"image": self._run["images"][item], "item": int(item), "token": int(token)}
                for item, token in zip(ordered.item, ordered.token, strict=True)
            ]
        width = self.width
        projection = f"gaussian to {width} dimensions, variance 1/{width}, torch seed {self.seed}"
        return Samples(
            model=self._run["model"],
            fingerprint=self._run["fingerprint"],
            data_hash=self._run["data_hash"],
            seed=self.seed,
            projection=None if width is None else projection,
            index_convention=INDEX_CONVENTION,
            rows=rows,
            arrays=arrays,
        )


@dataclass(frozen=True, eq=False)
class Samples:
    """Sampled states; `save` writes them as safetensors and a manifest.

    Attributes:
        model: name of the model.
        fingerprint: of the model.
        data_hash: `items_hash` of the questions.
        seed: of the sample and the projection.
        projection: how the states were projected, None if they are whole.
        index_convention: meaning of a layer index.
        rows: token group -> for each row: image (the independent unit), index of the item in
            the data, and place of the token in its prompt, padding not counted.
        arrays: token group -> states (layers + 1, n, width), float32.
    """

    model: str
    fingerprint: str
    data_hash: str
    seed: int
    projection: str | None
    index_convention: str
    rows: dict[str, list[dict[str, Any]]]
    arrays: dict[str, Floats]

    SCHEMA_VERSION: ClassVar[int] = 2

    def states(self, token_group: str) -> list[Floats]:
        """State 0 to state L of a token group, each (n, width), as `profile_states` takes them.

        Raises:
            BridgeError: no rows of this group were sampled.
        """
        return list(self.arrays[self._checked(token_group)])

    def images(self, token_group: str) -> list[str]:
        """The image of every row: the clusters of `profile_states`.

        Raises:
            BridgeError: no rows of this group were sampled.
        """
        return [row["image"] for row in self.rows[self._checked(token_group)]]

    def _checked(self, token_group: str) -> str:
        if token_group in self.arrays:
            return token_group
        known = ", ".join(self.arrays)
        raise BridgeError(f"no group '{token_group}' was sampled; there is {known}")

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
        """Read samples that `save` wrote.

        Raises:
            BridgeError: a file is missing or broken, another schema version, or manifest and
                states do not belong together.
        """
        folder = Path(folder)
        body = read_json(folder / MANIFEST, "manifest of samples", limit=_MANIFEST_BYTES)
        head = {"type": "Samples", "schema_version": cls.SCHEMA_VERSION}
        if not isinstance(body, dict) or {name: body.pop(name, None) for name in head} != head:
            raise BridgeError(f"{folder} holds no Samples of schema version {cls.SCHEMA_VERSION}")
        _check_manifest(folder / MANIFEST, body)
        try:
            tensors = read_arrays(folder / STATES, "states")
        except BridgeError as error:
            raise BridgeError(f"cannot read the samples in {folder}: {error}") from None
        arrays = {name: as_numpy(tensor) for name, tensor in tensors.items()}
        counts = {group: len(rows) for group, rows in body["rows"].items()}
        if counts != {g: a.shape[1] if a.ndim == 3 else None for g, a in arrays.items()}:
            raise BridgeError(f"{folder}: {MANIFEST} and {STATES} do not belong together")
        return cls(**body, arrays=arrays)


#: Type of every field of a manifest; a row is of one token.
_MANIFEST: dict[str, Any] = {
    "model": str,
    "fingerprint": str,
    "data_hash": str,
    "seed": int,
    "projection": (str, types.NoneType),
    "index_convention": str,
    "rows": dict,
}


def _check_manifest(path: Path, body: dict[str, Any]) -> None:
    """Refuse a manifest with another field, a field of another type, or rows without image."""
    if set(body) != set(_MANIFEST):
        raise BridgeError(f"{path} has not the fields {', '.join(_MANIFEST)}")
    for name, kind in _MANIFEST.items():
        if not isinstance(body[name], kind) or isinstance(body[name], bool):
            raise BridgeError(f"{path}: '{name}' is of another type, got {shown(body[name])}")
    for group, rows in body["rows"].items():
        for row in rows if isinstance(rows, list) else [None]:
            if not isinstance(row, dict) or not isinstance(row.get("image"), str):
                raise BridgeError(f"{path}: a row of {shown(group)} has no image, got {shown(row)}")
