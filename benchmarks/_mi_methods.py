"""What the benchmark of mutual information runs: problems with their truth, our methods, peers."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from estimators import mutual_information, tasks
from estimators.information.dispatch import MUTUAL_INFORMATION

LEVEL = 0.95
#: Dimensions of the Gaussian problems, of either side.
DIMENSIONS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
#: Our methods that train a network: the last to run, and the first to be left out.
TRAINED = ("flow", "infonce", "nwj", "mine", "smile")


@dataclass(frozen=True)
class Pairs:
    """Normal variables with `count` canonical pairs and 1 nat, turned so that none is aligned."""

    d: int
    count: int

    @property
    def mutual_information(self) -> float:
        """The truth, in nats."""
        return 1.0

    def sample(self, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows x and y, each of shape (n, d)."""
        rng = np.random.default_rng(seed)
        r = math.sqrt(-math.expm1(-2.0 / self.count))
        x, noise = rng.standard_normal((2, n, self.d))
        y = noise
        y[:, : self.count] *= math.sqrt(1.0 - r * r)
        y[:, : self.count] += r * x[:, : self.count]
        return _turned(x, rng), _turned(y, rng)


def _turned(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A reflection about a random direction: cheap, and it mixes all columns."""
    v = rng.standard_normal(rows.shape[1])
    v /= np.linalg.norm(v)
    return rows - 2.0 * np.outer(rows @ v, v)


def problems() -> dict[str, Any]:
    """Name -> something with `sample(n, seed)` and `mutual_information`."""
    gaussians: dict[str, Any] = {}
    for d in DIMENSIONS:
        gaussians[f"gaussian-spread-{d}"] = Pairs(d, d)
        if d > 3:
            gaussians[f"gaussian-3-pairs-{d}"] = Pairs(d, 3)
    return {**{one.id: one for one in tasks.TASKS}, **gaussians}


def run(problem: str, n: int, method: str, seed: int) -> dict[str, Any]:
    """One estimate in nats; `low` and `high` are None where the method has no interval."""
    one = problems()[problem]
    x, y = one.sample(n, seed)
    return METHODS[method](x, y, seed)


def _ours(method: str) -> Callable[..., dict[str, Any]]:
    def estimate(x: np.ndarray, y: np.ndarray, seed: int) -> dict[str, Any]:
        found = mutual_information(x, y, method=method, level=LEVEL, seed=seed)
        low, high = found.interval
        return {
            "value": found.value,
            "low": low if math.isfinite(low) else None,
            "high": high if math.isfinite(high) else None,
            "reliable": found.reliable,
            "said": found.method,
            "reason": found.reason,
        }

    return estimate


def _value(value: float) -> dict[str, Any]:
    return {"value": float(value), "low": None, "high": None, "reliable": None}


def plug_in(x: np.ndarray, y: np.ndarray, seed: int) -> dict[str, Any]:
    """The Gaussian formula with sample covariances, uncorrected."""
    p = x.shape[1]
    c = np.cov(np.hstack((x, y)).T)
    signs, logs = zip(*(np.linalg.slogdet(m) for m in (c[:p, :p], c[p:, p:], c)), strict=True)
    if min(signs) <= 0:
        raise ValueError("the sample covariance is singular")
    return _value(0.5 * (logs[0] + logs[1] - logs[2]))


def npeet_plus(x: np.ndarray, y: np.ndarray, seed: int) -> dict[str, Any]:
    """KSG 1 with k = 3 by npeet-plus (trees of scikit-learn)."""
    from npeet_plus import mi

    np.random.seed(seed)  # noqa: NPY002 - it breaks ties with numpy's global generator
    return _value(mi(x, y, k=3, base=math.e))


def scikit_learn(x: np.ndarray, y: np.ndarray, seed: int) -> dict[str, Any]:
    """`mutual_info_regression`, k = 3: one variable against one."""
    from sklearn.feature_selection import mutual_info_regression

    if x.shape[1] > 1 or y.shape[1] > 1:
        raise ValueError("one variable against one only")
    return _value(mutual_info_regression(x, y[:, 0], random_state=seed)[0])


def ennemi(x: np.ndarray, y: np.ndarray, seed: int) -> dict[str, Any]:
    """`ennemi.estimate_mi`, KSG with k = 3: one variable against one."""
    from ennemi import estimate_mi

    if x.shape[1] > 1 or y.shape[1] > 1:
        raise ValueError("one variable against one only")
    return _value(estimate_mi(y[:, 0], x[:, 0], max_threads=1)[0, 0])


#: Peer -> the module that must be installed, and what runs it.
PEERS: Mapping[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    "npeet-plus": ("npeet_plus", npeet_plus),
    "scikit-learn": ("sklearn", scikit_learn),
    "ennemi": ("ennemi", ennemi),
}


def installed() -> list[str]:
    """Peers that are here."""
    return [name for name, (module, _) in PEERS.items() if importlib.util.find_spec(module)]


#: Every method by name: ours first, quick ones before trained ones, then the peers.
METHODS: dict[str, Callable[..., dict[str, Any]]] = {
    **{name: _ours(name) for name in MUTUAL_INFORMATION if name not in TRAINED},
    "plug-in": plug_in,
    **{name: run_peer for name, (_, run_peer) in PEERS.items()},
    **{name: _ours(name) for name in TRAINED if name in MUTUAL_INFORMATION},
}
