"""`PID`: redundant, unique and synergistic information of two sources about a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from estimators._pmf import check_unit
from estimators._validate import check_fraction
from estimators.record import Record

#: The four atoms, in their fixed order.
ATOMS = ("redundant", "unique_1", "unique_2", "synergistic")

_SCALED = (*ATOMS, "lower", "upper", "gap")  # fields in `unit`


@dataclass(frozen=True, kw_only=True)
class PID(Record):
    """A partial information decomposition of I(X1, X2; Y).

        redundant + unique_1               = I(X1; Y)      information_1
        redundant + unique_2               = I(X2; Y)      information_2
        unique_1 + unique_2 + redundant    = I_union       union
        sum of the four atoms              = I(X1, X2; Y)  total
        redundant - synergistic            = co-information

    Attributes:
        redundant: information that each source has by itself.
        unique_1: information that only the first source has.
        unique_2: information that only the second source has.
        synergistic: information that only both sources together have.
        unit: "nats" or "bits", of the atoms, the intervals, `lower`, `upper` and `gap`.
        measure: definition of redundancy, for example "broja".
        method: "exact" for a known distribution, otherwise the estimator.
        n: number of samples; None for a known distribution.
        intervals: confidence interval of each atom by name; may be empty. They are cut to what
            is possible (no atom of BROJA is negative), estimates are not, so that the sums above
            hold: by noise an atom may lie outside of its interval, and `str` says so.
        level: confidence of `intervals`; None without intervals.
        p_values: permutation p-values by name; empty without permutations.
        lower: BROJA only: certified lower bound of the union information (dual feasible).
        upper: BROJA only: certified upper bound of the union information (primal feasible).
        gap: BROJA only: upper - lower, the largest possible error of an atom.
        iterations: BROJA only: number of Newton steps.
        converged: BROJA only: whether the gap reached the tolerance.
        reliable: False where the conditions of the method are not met.
        reason: why the result is unreliable, in one line; empty if and only if `reliable`.
        diagnostics: further numbers or strings.

    Raises:
        ValueError: an unknown unit, n below 1, intervals without a level or for an unknown atom,
            interval ends in the wrong order, a `reason` that contradicts `reliable`, only
            some of lower, upper and gap.

    Source:
        Williams & Beer 2010, arXiv 1004.2515 (the lattice of two sources).

    Example:
        >>> xor = PID(
        ...     redundant=0, unique_1=0, unique_2=0, synergistic=1, unit="bits", measure="broja"
        ... )
        >>> xor.total, xor.co_information, round(xor.to_unit("nats").synergistic, 4)
        (1.0, -1.0, 0.6931)
        >>> PID.from_json(xor.to_json()) == xor
        True
    """

    redundant: float
    unique_1: float
    unique_2: float
    synergistic: float
    unit: str
    measure: str
    method: str = "exact"
    n: int | None = None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)
    level: float | None = None
    p_values: Mapping[str, float] = field(default_factory=dict, hash=False)
    lower: float | None = None
    upper: float | None = None
    gap: float | None = None
    iterations: int | None = None
    converged: bool | None = None
    reliable: bool = True
    reason: str = ""
    diagnostics: Mapping[str, float | int | str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_unit(self.unit)
        if self.n is not None and self.n < 1:
            raise ValueError(f"n counts samples from 1, got {self.n}")
        if self.level is not None:
            check_fraction(self.level, "level")
        elif self.intervals:
            raise ValueError("intervals need their level")
        for name, (low, high) in self.intervals.items():
            if name not in ATOMS:
                raise ValueError(f"interval of unknown atom '{name}'; atoms: {', '.join(ATOMS)}")
            if low > high:
                raise ValueError(f"interval of {name} has its ends in the wrong order: {low, high}")
        if self.reliable == bool(self.reason):
            raise ValueError("an unreliable PID needs a reason, a reliable one has none")
        bounds = (self.lower, self.upper, self.gap)
        if any(bound is not None for bound in bounds) and None in bounds:
            raise ValueError("lower, upper and gap belong together; give all three or none")
        self._set(**{name: float(getattr(self, name)) for name in ATOMS})
        self._set(
            intervals={k: (float(a), float(b)) for k, (a, b) in self.intervals.items()},
            p_values={k: float(v) for k, v in self.p_values.items()},
            diagnostics={
                k: v.item() if isinstance(v, np.generic) else v for k, v in self.diagnostics.items()
            },
        )

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def atoms(self) -> dict[str, float]:
        """The four atoms by name, in the order of `ATOMS`."""
        return {name: getattr(self, name) for name in ATOMS}

    @property
    def information_1(self) -> float:
        """I(X1; Y) = redundant + unique_1."""
        return self.redundant + self.unique_1

    @property
    def information_2(self) -> float:
        """I(X2; Y) = redundant + unique_2."""
        return self.redundant + self.unique_2

    @property
    def union(self) -> float:
        """I_union = redundant + unique_1 + unique_2."""
        return self.redundant + self.unique_1 + self.unique_2

    @property
    def total(self) -> float:
        """I(X1, X2; Y), the sum of the four atoms."""
        return self.union + self.synergistic

    @property
    def co_information(self) -> float:
        """I(X1; Y) + I(X2; Y) - I(X1, X2; Y) = redundant - synergistic."""
        return self.redundant - self.synergistic

    def to_unit(self, unit: str) -> Self:
        """Convert the decomposition to "nats" or "bits".

        Raises:
            ValueError: an unknown unit.
        """
        factor = check_unit(self.unit) / check_unit(unit)
        changes: dict[str, Any] = {name: getattr(self, name) for name in _SCALED}
        changes = {k: None if v is None else v * factor for k, v in changes.items()}
        changes["intervals"] = {k: (a * factor, b * factor) for k, (a, b) in self.intervals.items()}
        return replace(self, unit=unit, **changes)

    def projected(self) -> Self:
        """Nearest decomposition without negative atoms, with the same total if it is positive.

        Estimates from samples are not clipped, so that errors average out. This is the
        Euclidean projection of the atoms onto {atoms >= 0, sum = max(total, 0)}; intervals are
        clipped at zero. Meaningless for measures with negative atoms (CCS).

        Source:
            Held, Wolfe & Crowder 1974 (projection onto a simplex).

        Example:
            >>> noisy = PID(
            ...     redundant=0.5, unique_1=-0.1, unique_2=0.1, synergistic=0.1, unit="bits",
            ...     measure="broja", method="smooth-bootstrap", n=100,
            ... )
            >>> [round(atom, 3) for atom in noisy.projected().atoms.values()]
            [0.467, 0.0, 0.067, 0.067]
        """
        atoms = np.array(list(self.atoms.values()))
        total = max(self.total, 0.0)
        ordered = np.sort(atoms)[::-1]
        # Common reduction with which the k largest atoms have the required sum, for each k.
        reduction = (np.cumsum(ordered) - total) / np.arange(1, atoms.size + 1)
        last = int(np.flatnonzero(ordered - reduction >= 0.0)[-1])
        nearest = np.maximum(atoms - reduction[last], 0.0)
        intervals = {k: (max(a, 0.0), max(b, 0.0)) for k, (a, b) in self.intervals.items()}
        values = dict(zip(ATOMS, nearest.tolist(), strict=True))
        return replace(self, intervals=intervals, **values)

    def __str__(self) -> str:
        def shown(name: str) -> str:
            text = f"{name} {getattr(self, name):.4f}"
            if name in self.intervals:
                low, high = self.intervals[name]
                text += f" [{low:.4f}, {high:.4f}]"
            return text

        notes = [self.measure, self.method]
        notes += [] if self.n is None else [f"n={self.n}"]
        notes += [] if self.level is None else [f"{100 * self.level:g} %"]
        notes += [] if self.gap is None else [f"gap {self.gap:.1e}"]
        intervals = self.intervals.items()
        beyond = [name for name, (low, high) in intervals if not low <= getattr(self, name) <= high]
        if beyond:
            notes.append(
                f"{' and '.join(beyond)}: outside of the interval by noise of the estimate"
            )
        notes += [] if self.reliable else [f"unreliable: {self.reason}"]
        return f"{', '.join(map(shown, ATOMS))} {self.unit} ({', '.join(notes)})"
