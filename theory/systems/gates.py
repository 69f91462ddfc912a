"""Canonical gates of two sources and one target, with exact PID atoms.

The pmfs come from the PID literature and are stored as integer weights, so all probabilities are
exact. One BROJA atom of each gate is known in closed form; the other three follow from the
consistency equations and the informations of the pmf.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from theory._validate import check_count, check_counts, check_text, shown
from theory.pmf import as_pmf, information, marginal, random_pmf

Floats = NDArray[np.float64]
ATOMS = ("redundant", "unique_1", "unique_2", "synergistic")
UNITS = {"nats": 1.0, "bits": 1.0 / math.log(2.0)}


@dataclass(frozen=True, eq=False)
class Gate:
    """A joint pmf of two sources and a target with known PID.

    Attributes:
        name: name of the gate.
        p: joint pmf p[x1, x2, y].
        atoms_in_nats: (redundant, unique_1, unique_2, synergistic) in nats for each measure
            ("broja", "imin", "mmi") with exactly known atoms.

    Example:
        >>> gate("xor").atoms("broja", unit="bits")["synergistic"]
        1.0
    """

    name: str
    p: Floats
    atoms_in_nats: Mapping[str, tuple[float, float, float, float]]

    def atoms(self, measure: str = "broja", *, unit: str = "nats") -> dict[str, float]:
        """Four atoms by name.

        Raises:
            ValueError: no exact atoms for this measure, or unknown unit.
        """
        if measure not in self.atoms_in_nats:
            known = ", ".join(self.atoms_in_nats)
            raise ValueError(f"no exact {measure} atoms of '{self.name}'; there are {known}")
        if unit not in UNITS:
            raise ValueError(f"unknown unit '{unit}'; choose from {', '.join(UNITS)}")
        values = (atom * UNITS[unit] for atom in self.atoms_in_nats[measure])
        return dict(zip(ATOMS, values, strict=True))

    def informations(self, *, unit: str = "nats") -> tuple[float, float, float]:
        """I(Y; X1), I(Y; X2), I(Y; X1, X2).

        Raises:
            ValueError: an unknown unit.
        """
        if unit not in UNITS:
            raise ValueError(f"unknown unit '{unit}'; choose from {', '.join(UNITS)}")
        first, second, total = (value * UNITS[unit] for value in _informations(self.p))
        return first, second, total


#: name -> (outcomes "x1 x2 y" -> weight, (known BROJA atom, its value in bits)).
_TABLE: dict[str, tuple[dict[str, int], tuple[str, float]]] = {
    "redundant": ({"0 0 0": 1, "1 1 1": 1}, ("unique_1", 0.0)),
    "unique": ({"0 0 0": 1, "0 1 1": 1, "1 0 2": 1, "1 1 3": 1}, ("redundant", 0.0)),
    "only_second": ({"0 0 0": 1, "0 1 1": 1, "1 0 0": 1, "1 1 1": 1}, ("redundant", 0.0)),
    "xor": ({"0 0 0": 1, "0 1 1": 1, "1 0 1": 1, "1 1 0": 1}, ("unique_1", 0.0)),
    "and": ({"0 0 0": 1, "0 1 0": 1, "1 0 0": 1, "1 1 1": 1}, ("unique_1", 0.0)),
    "or": ({"0 0 0": 1, "0 1 1": 1, "1 0 1": 1, "1 1 1": 1}, ("unique_1", 0.0)),
    "sum": ({"0 0 0": 1, "0 1 1": 1, "1 0 1": 1, "1 1 2": 1}, ("unique_1", 0.0)),
    "rdn_xor": (
        {f"{2 * r + a} {2 * r + b} {2 * r + (a ^ b)}": 1 for r, a, b in product((0, 1), repeat=3)},
        ("unique_1", 0.0),
    ),
    "rdn_unq_xor": (
        {
            f"{4 * r + 2 * u + a} {4 * r + 2 * w + b} {8 * r + 4 * u + 2 * w + (a ^ b)}": 1
            for r, u, w, a, b in product((0, 1), repeat=5)
        },
        ("unique_1", 1.0),
    ),
    "imperfect_redundancy": ({"0 0 0": 499, "0 1 0": 1, "1 1 1": 500}, ("unique_2", 0.0)),
    "duplicate": ({"0 0 0": 1, "0 0 1": 1, "1 1 1": 1, "1 1 2": 1}, ("unique_1", 0.0)),
    "reduced_or": ({"0 0 0": 2, "0 1 1": 1, "1 0 1": 1}, ("unique_1", 0.0)),
    "boom": (
        {"0 0 1": 1, "0 0 2": 1, "0 2 0": 1, "1 2 1": 1, "2 0 2": 1, "2 1 2": 1},
        ("unique_1", 1.0 / 3.0),
    ),
    "pointwise_unique": (
        {"0 1 0": 1, "1 0 0": 1, "0 2 1": 1, "2 0 1": 1},
        ("unique_1", 0.0),
    ),
    "nothing": ({f"{a} {b} {c}": 1 for a, b, c in product((0, 1), repeat=3)}, ("unique_1", 0.0)),
}

GATES = tuple(_TABLE)


def gate(name: str) -> Gate:
    """Canonical gate by name.

    Raises:
        ValueError: unknown gate; the message lists all names.

    Source:
        Williams & Beer 2010, arXiv 1004.2515; Bertschinger et al. 2014, arXiv 1311.2852;
        Griffith & Koch 2014; Ince 2017 (pointwise unique).

    Example:
        >>> {name: round(atom, 4) for name, atom in gate("and").atoms(unit="bits").items()}
        {'redundant': 0.3113, 'unique_1': 0.0, 'unique_2': 0.0, 'synergistic': 0.5}
    """
    if check_text(name, "name", '"xor"') not in _TABLE:
        raise ValueError(f"no gate '{name}'; there are {', '.join(GATES)}")
    outcomes, known = _TABLE[name]
    cells = [tuple(map(int, outcome.split())) for outcome in outcomes]
    weights = np.zeros(np.max(cells, axis=0) + 1)
    for cell, weight in zip(cells, outcomes.values(), strict=True):
        weights[cell] = weight
    return _gate(name, as_pmf(weights), (known[0], known[1] * math.log(2.0)))


def _check_shape(shape: tuple[int, int, int]) -> None:
    """Raise unless a shape consists of three positive integers."""
    if len(check_counts(shape, "shape")) != 3:
        raise ValueError(f"shape must be three sizes of alphabets, got {shown(shape)}")
    if min(shape) < 1:
        raise ValueError(f"every alphabet needs a symbol, got shape {shape}")


def random_triple(shape: tuple[int, int, int], *, seed: int) -> Gate:
    """Random Dirichlet pmf p[x1, x2, y] with exact I_min and MMI atoms; BROJA is unknown.

    Raises:
        ValueError: an alphabet is empty.

    Example:
        >>> sorted(random_triple((2, 3, 4), seed=0).atoms_in_nats)
        ['imin', 'mmi']
    """
    _check_shape(shape)
    check_count(seed, "seed", least=0)
    return _gate("random", random_pmf(np.random.default_rng(seed), shape), None)


def degraded_triple(shape: tuple[int, int, int], *, seed: int) -> Gate:
    """Random pmf in which X2 is a garbling of X1: unique_2 = 0, so BROJA is known exactly.

    A random channel maps X1 to X2. Then X1 and X2 are recoupled at random given Y with the same
    marginals (X1, Y) and (X2, Y), which changes only the synergy.

    Raises:
        ValueError: an alphabet is empty.

    Source:
        Bertschinger et al. 2014, arXiv 1311.2852, Lemma 6: the unique information of a source
        that is a garbling of the other vanishes.

    Example:
        >>> degraded_triple((3, 2, 2), seed=0).atoms("broja")["unique_2"]
        0.0
    """
    _check_shape(shape)
    check_count(seed, "seed", least=0)
    rng = np.random.default_rng(seed)
    first = random_pmf(rng, (shape[0], shape[2]))  # p[x1, y]
    channel = rng.dirichlet(np.ones(shape[1]), size=shape[0])  # k[x1, x2]
    coupled = first[:, None, :] * channel[:, :, None]
    target = coupled.sum(axis=(0, 1))
    independent = np.einsum("ay,by->aby", first, coupled.sum(axis=0)) / np.where(
        target > 0, target, 1.0
    )
    mix = rng.random(shape[2])
    return _gate("degraded", as_pmf(mix * coupled + (1.0 - mix) * independent), ("unique_2", 0.0))


def imin_redundancy(p: Floats) -> float:
    """I_min in nats: sum over y of p(y) times the minimum over sources of specific information.

    Source:
        Williams & Beer 2010, arXiv 1004.2515, equation 5.

    Example:
        >>> round(imin_redundancy(gate("unique").p), 4)
        0.6931
    """
    target = marginal(p, [2])
    total = 0.0
    for y in np.flatnonzero(target > 0):
        specific = []
        for source in (0, 1):
            joint = marginal(p, [source, 2])
            support = joint[:, y] > 0
            given_y = joint[support, y] / target[y]
            posterior = joint[support, y] / joint[support].sum(axis=1)
            specific.append(float(given_y @ np.log(posterior / target[y])))
        total += float(target[y]) * min(specific)
    return total


def _informations(p: Floats) -> tuple[float, float, float]:
    """I(Y; X1), I(Y; X2) and I(Y; X1, X2) in nats."""
    return information(p, [0], [2]), information(p, [1], [2]), information(p, [0, 1], [2])


def _gate(name: str, p: Floats, broja: tuple[str, float] | None) -> Gate:
    """Gate with the atoms that follow from the pmf and from one known BROJA atom, if any."""
    first, second, total = _informations(p)
    measures = {"imin": imin_redundancy(p), "mmi": min(first, second)}
    if broja is not None:
        known, value = broja
        redundant = {"redundant": value, "unique_1": first - value, "unique_2": second - value}
        measures = {"broja": redundant[known], **measures}
    atoms = {
        measure: tuple(
            max(0.0, atom)
            for atom in (shared, first - shared, second - shared, total - first - second + shared)
        )
        for measure, shared in measures.items()
    }
    if broja is not None and broja[0] != "redundant":
        exact = list(atoms["broja"])
        exact[ATOMS.index(broja[0])] = broja[1]
        atoms["broja"] = tuple(exact)
    return Gate(name, p, atoms)  # type: ignore[arg-type]
