"""An attention head with given attention mass on vision and given geometry of values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theory._validate import check_choice, check_count, check_number

Floats = NDArray[np.float64]

GEOMETRIES = ("equal", "split", "random")


@dataclass(frozen=True, eq=False)
class AttentionHead:
    """One query of an attention head with its keys and values, vision keys first.

    Attributes:
        query: array of shape (d,).
        keys: array of shape (n_vision + n_text, d).
        values: array of shape (n_vision + n_text, d).
        n_vision: number of vision keys.
        var: attention mass on vision keys, by construction.
        diameter: largest distance between two values.
        change: norm of the change of the output when the vision keys are removed, by construction.

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
        """Attention weights of the query, shape (n_vision + n_text,); 0 on removed keys."""
        scores = self.keys @ self.query / math.sqrt(self.query.size)
        if not vision:
            scores[: self.n_vision] = -np.inf
        a = np.exp(scores - scores.max())
        return np.asarray(a / a.sum())

    def output(self, *, vision: bool = True) -> Floats:
        """Output of the head, shape (d,), with or without the vision keys."""
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
    """Build a head with attention mass `var` on the vision keys.

        equal   all values are equal: removing vision does not change the output
        split   one value for vision, one for text, at distance 1: removing vision changes the
                output by var times the diameter, the bound of S8
        random  standard normal values

    Args:
        var: attention mass on vision keys, in (0, 1).
        geometry: geometry of the values, "equal", "split" or "random".
        n_vision: number of vision keys, at least 1.
        n_text: number of text keys, at least 1.
        d: dimension of the head, at least 2.
        seed: random seed.

    Returns:
        The head with its ground truth.

    Raises:
        ValueError: a mass outside (0, 1), an unknown geometry, no keys, or d below 2.

    Source:
        Statement S8.

    Example:
        >>> head = attention_head(0.3, geometry="split", seed=0)
        >>> change = head.output(vision=False) - head.output()
        >>> round(float(np.linalg.norm(change)), 9), round(head.change, 9)
        (0.3, 0.3)
    """
    for name, number in (("n_vision", n_vision), ("n_text", n_text), ("d", d)):
        check_count(number, name, least=0)
    check_count(seed, "seed", least=0)
    if not 0.0 < check_number(var, "var") < 1.0:
        raise ValueError(f"var must lie strictly between 0 and 1, got {var}")
    check_choice(geometry, "geometry", GEOMETRIES)
    if min(n_vision, n_text) < 1 or d < 2:
        raise ValueError(
            f"a head needs keys of both kinds and d >= 2, got {n_vision}, {n_text} and d={d}"
        )
    rng = np.random.default_rng(seed)
    shares = [rng.dirichlet(np.ones(count)) for count in (n_vision, n_text)]
    shares = [(share + 1e-6) / (share + 1e-6).sum() for share in shares]
    weights = np.concatenate([var * shares[0], (1.0 - var) * shares[1]])
    query = rng.standard_normal(d)
    # A key is the multiple of the query with the required score plus an orthogonal random part.
    orthogonal = rng.standard_normal((n_vision + n_text, d))
    orthogonal -= np.outer(orthogonal @ query, query) / (query @ query)
    keys = orthogonal + np.outer(np.log(weights) * math.sqrt(d), query) / (query @ query)
    values = _values(geometry, n_vision, n_text, d, rng)
    gaps = values[:, None, :] - values[None, :, :]
    means = shares[0] @ values[:n_vision], shares[1] @ values[n_vision:]
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
    """Values of the given geometry, vision first."""
    if geometry == "random":
        return rng.standard_normal((n_vision + n_text, d))
    base, step = rng.standard_normal(d), rng.standard_normal(d)
    values = np.tile(base, (n_vision + n_text, 1))
    if geometry == "split":
        values[:n_vision] += step / np.linalg.norm(step)
    return values
