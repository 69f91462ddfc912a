"""One attention head with a chosen attention mass on vision and a chosen geometry of values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

GEOMETRIES = ("equal", "split", "random")


@dataclass(frozen=True, eq=False)
class AttentionHead:
    """Query, keys and values of one head for one query, vision keys first.

    Attributes:
        query: array of shape (d,).
        keys: array of shape (n_vision + n_text, d).
        values: array of shape (n_vision + n_text, d).
        n_vision: number of vision keys.
        var: the attention mass on vision keys, by construction.
        diameter: largest distance between two values.
        change: |output without the vision keys - output|, by construction.

    Example:
        >>> head = attention_head(0.9, geometry="equal", seed=0)
        >>> head.var, head.change
        (0.9, 0.0)
    """

    query: Floats
    keys: Floats
    values: Floats
    n_vision: int
    var: float
    diameter: float
    change: float

    def weights(self, *, vision: bool = True) -> Floats:
        """Softmax weights of the query, shape (n_vision + n_text,); 0 on removed keys."""
        scores = self.keys @ self.query / math.sqrt(self.query.size)
        if not vision:
            scores[: self.n_vision] = -np.inf
        a = np.exp(scores - scores.max())
        return np.asarray(a / a.sum())

    def output(self, *, vision: bool = True) -> Floats:
        """The head's output, shape (d,), with or without the vision keys."""
        return np.asarray(self.weights(vision=vision) @ self.values)


def attention_head(
    var: float,
    *,
    geometry: str = "random",
    n_vision: int = 6,
    n_text: int = 4,
    d: int = 8,
    seed: int,
) -> AttentionHead:
    """A head whose mass on vision keys is `var` and whose values lie as `geometry` says.

        equal   all values are the same vector: removal changes nothing, at any mass
        split   one value for vision, one for text, at distance 1: removal changes the output by
                exactly var times the diameter, the most that S8 allows
        random  standard normal values

    Args:
        var: attention mass on vision keys, in (0, 1).
        geometry: one of the three.
        n_vision: vision keys, at least 1.
        n_text: text keys, at least 1.
        d: width of the head, at least 2.
        seed: fixes everything else.

    Returns:
        The head and its truth.

    Raises:
        ValueError: a mass outside (0, 1), an unknown geometry, no keys, d below 2.

    Source:
        Statement S8.

    Example:
        >>> head = attention_head(0.3, geometry="split", seed=0)
        >>> change = head.output(vision=False) - head.output()
        >>> round(float(np.linalg.norm(change)), 9), round(head.change, 9)
        (0.3, 0.3)
    """
    if not 0.0 < var < 1.0:
        raise ValueError(f"var must lie strictly between 0 and 1, got {var}")
    if geometry not in GEOMETRIES:
        raise ValueError(f"unknown geometry '{geometry}'; choose from {', '.join(GEOMETRIES)}")
    if min(n_vision, n_text) < 1 or d < 2:
        raise ValueError(
            f"a head needs keys of both kinds and d >= 2, got {n_vision}, {n_text} and d={d}"
        )
    rng = np.random.default_rng(seed)
    within = [rng.dirichlet(np.ones(count)) for count in (n_vision, n_text)]
    within = [(part + 1e-6) / (part + 1e-6).sum() for part in within]
    weights = np.concatenate([var * within[0], (1.0 - var) * within[1]])
    query = rng.standard_normal(d)
    # A key is what gives the wanted score, plus anything orthogonal to the query.
    loose = rng.standard_normal((n_vision + n_text, d))
    loose -= np.outer(loose @ query, query) / (query @ query)
    keys = loose + np.outer(np.log(weights) * math.sqrt(d), query) / (query @ query)
    values = _values(geometry, n_vision, n_text, d, rng)
    gaps = values[:, None, :] - values[None, :, :]
    means = within[0] @ values[:n_vision], within[1] @ values[n_vision:]
    change = 0.0 if geometry == "equal" else var * float(np.linalg.norm(means[0] - means[1]))
    return AttentionHead(
        query=query,
        keys=keys,
        values=values,
        n_vision=n_vision,
        var=var,
        diameter=float(np.sqrt((gaps**2).sum(axis=-1)).max()),
        change=change,
    )


def _values(geometry: str, n_vision: int, n_text: int, d: int, rng: np.random.Generator) -> Floats:
    if geometry == "random":
        return rng.standard_normal((n_vision + n_text, d))
    base, step = rng.standard_normal(d), rng.standard_normal(d)
    values = np.tile(base, (n_vision + n_text, 1))
    if geometry == "split":
        values[:n_vision] += step / np.linalg.norm(step)
    return values
