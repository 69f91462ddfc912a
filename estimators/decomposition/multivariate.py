"""PID of more than two sources: the I_min lattice, and BROJA's unique informations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain, combinations

import numpy as np
from numpy.typing import ArrayLike

from estimators._pmf import as_pmf, check_unit
from estimators.decomposition.broja import solve_broja
from estimators.decomposition.redundancy import imin
from estimators.record import Record

Node = tuple[tuple[int, ...], ...]

_SETS: tuple[tuple[int, ...], ...] = tuple(
    chain.from_iterable(combinations(range(3), size) for size in (1, 2, 3))
)


@dataclass(frozen=True, kw_only=True)
class PIDLattice(Record):
    """Redundancy and atom of each node of the lattice of three sources.

    A node is an antichain of sets of sources. "{1}{23}" is the information common to source 1
    and the pair (2, 3). The redundancy of a node is the sum of the atoms at and below it.

    Attributes:
        redundancies: redundancy by node, 18 nodes.
        atoms: atom (partial information) by node.
        unit: "nats" or "bits".
        measure: the definition of redundancy.

    Example:
        >>> p = np.zeros((2, 2, 2, 2))
        >>> p[0, 0, 0, 0] = p[1, 1, 1, 1] = 0.5
        >>> lattice = pid_lattice(p, unit="bits")
        >>> lattice.atoms["{1}{2}{3}"], lattice.total
        (1.0, 1.0)
    """

    redundancies: Mapping[str, float] = field(hash=False)
    atoms: Mapping[str, float] = field(hash=False)
    unit: str
    measure: str

    @property
    def total(self) -> float:
        """I(X1, X2, X3; Y), the redundancy of the top node."""
        return self.redundancies["{123}"]


def pid_lattice(p: ArrayLike, *, measure: str = "imin", unit: str = "nats") -> PIDLattice:
    """The I_min decomposition of three sources about one target.

        I_min(A_1, ..., A_k) = sum_y p(y) min_i I(A_i; Y=y)
        atom(node) = I_min(node) - sum of the atoms strictly below it

    Args:
        p: array p[x1, x2, x3, y] of probabilities that sum to one.
        measure: "imin"; no other measure is offered for three sources.
        unit: "nats" or "bits".

    Raises:
        ValueError: another measure, another number of sources, and as `pid_from_pmf`.

    Source:
        Williams & Beer 2010, arXiv 1004.2515, equations 3 and 7.

    Example:
        >>> p = np.zeros((2, 2, 2, 2))
        >>> for x in np.ndindex(2, 2, 2):
        ...     p[(*x, sum(x) % 2)] = 0.125
        >>> round(pid_lattice(p, unit="bits").atoms["{123}"], 6)
        1.0
    """
    factor = check_unit(unit)
    if measure != "imin":
        raise ValueError(
            f"three sources are decomposed by 'imin' only, got '{measure}'; for the unique "
            "informations of BROJA use unique_informations"
        )
    array = np.asarray(p)
    if array.ndim not in (3, 4):
        raise ValueError(
            f"the lattice is offered for three sources, p[x1, x2, x3, y], got shape {array.shape}"
        )
    if array.ndim == 3:
        raise ValueError(f"two sources are decomposed by pid_from_pmf, got shape {array.shape}")
    pmf = as_pmf(p, axes="x1, x2, x3, y", counts="a division by their sum")
    pairs = {
        group: pmf.sum(tuple(i for i in range(3) if i not in group)).reshape(-1, pmf.shape[-1])
        for group in _SETS
    }
    values = {node: imin(*(pairs[group] for group in node)) / factor for node in _nodes()}
    atoms: dict[Node, float] = {}
    for node in sorted(values, key=lambda n: sum(_below(m, n) for m in values)):
        atoms[node] = values[node] - sum(atoms[m] for m in atoms if _below(m, node))
    return PIDLattice(
        redundancies={_name(node): value for node, value in values.items()},
        atoms={_name(node): value for node, value in atoms.items()},
        unit=unit,
        measure=measure,
    )


def unique_informations(p: ArrayLike, *, unit: str = "nats") -> tuple[float, ...]:
    """BROJA unique information of each source given all other sources jointly.

    U_i = min I_Q(X_i; Y | X_-i) over the joints Q with the marginals (X_i, Y) and (X_-i, Y).

    Args:
        p: array p[x1, ..., xm, y], m >= 2, of probabilities that sum to one.
        unit: "nats" or "bits".

    Returns:
        m numbers, each certified to the gap of `pid_from_pmf`.

    Raises:
        ValueError: fewer than two sources, a gap that was not reached, and as `pid_from_pmf`.

    Source:
        Bertschinger et al. 2014, arXiv 1311.2852, equation 12.

    Example:
        >>> p = np.full((2, 2, 2, 2), 0.0)
        >>> for x in np.ndindex(2, 2, 2):
        ...     p[(*x, x[0])] = 0.125
        >>> [round(u, 6) for u in unique_informations(p, unit="bits")]
        [1.0, 0.0, 0.0]
    """
    factor = check_unit(unit)
    pmf = as_pmf(p, counts="a division by their sum")
    if pmf.ndim < 3:
        raise ValueError(
            f"unique informations need two sources or more, p[x1, x2, ..., y], got {pmf.shape}"
        )
    unique = []
    for source in range(pmf.ndim - 1):
        p3 = np.moveaxis(pmf, source, 0).reshape(pmf.shape[source], -1, pmf.shape[-1])
        # Joint symbols of the other sources that never occur are dropped to save time.
        solution = solve_broja(p3[:, p3.sum((0, 2)) > 0.0])
        if not solution.converged[0]:
            raise ValueError(
                f"the unique information of source {source + 1} is known only to "
                f"{solution.gap[0]:.1e} nats"
            )
        unique.append(float(solution.atoms[0, 1]) / factor)
    return tuple(unique)


def _nodes() -> list[Node]:
    """The non-empty antichains of sets of sources."""
    return [
        node
        for size in range(1, 4)
        for node in combinations(_SETS, size)
        if not any(set(a) <= set(b) for a in node for b in node if a != b)
    ]


def _below(low: Node, high: Node) -> bool:
    """Whether low < high in the lattice: each set of high contains a set of low."""
    return low != high and all(any(set(a) <= set(b) for a in low) for b in high)


def _name(node: Node) -> str:
    return "".join("{" + "".join(str(i + 1) for i in group) + "}" for group in node)
