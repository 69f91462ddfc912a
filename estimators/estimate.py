"""`Estimate`: a number with confidence interval, unit and reliability verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from estimators._validate import check_fraction
from estimators.record import Record


@dataclass(frozen=True, kw_only=True)
class Estimate(Record):
    """An estimated number with confidence interval and reliability verdict.

    Attributes:
        value: the point estimate.
        interval: lower and upper end of the confidence interval; ends may be infinite.
        level: confidence of `interval`, in (0, 1).
        n: number of independent clusters (images) behind the value, not of rows.
        d: dimension of the rows the value was computed from; 1 for scalars.
        unit: unit of `value` and `interval`, for example "nats"; "1" for a pure number.
        method: how the value and the interval were obtained.
        reliable: False where the conditions of the method are not met.
        reason: why the estimate is unreliable, in one line; empty if and only if `reliable`.
        diagnostics: further numbers or strings.

    Raises:
        ValueError: level outside (0, 1), n or d below 1, interval ends in the wrong
            order, or a `reason` that contradicts `reliable`.

    Example:
        >>> mi = Estimate(value=0.5, interval=(0.4, 0.6), n=1000, unit="nats", method="gaussian")
        >>> Estimate.from_json(mi.to_json()) == mi
        True
        >>> print(mi)
        0.5 nats [0.4, 0.6] (95 %, n=1000, gaussian)
    """

    value: float
    interval: tuple[float, float]
    level: float = 0.95
    n: int
    d: int = 1
    unit: str = "1"
    method: str
    reliable: bool = True
    reason: str = ""
    diagnostics: Mapping[str, float | int | str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_fraction(self.level, "level")
        low, high = (float(end) for end in self.interval)
        if low > high:
            raise ValueError(f"interval ends are in the wrong order: ({low}, {high})")
        if self.n < 1 or self.d < 1:
            raise ValueError(f"n and d count from 1, got n={self.n}, d={self.d}")
        if self.reliable == bool(self.reason):
            raise ValueError("an unreliable estimate needs a reason, a reliable one has none")
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "interval", (low, high))
        plain = {
            key: item.item() if isinstance(item, np.generic) else item
            for key, item in self.diagnostics.items()
        }
        object.__setattr__(self, "diagnostics", plain)

    def __str__(self) -> str:
        unit = "" if self.unit == "1" else f" {self.unit}"
        low, high = self.interval
        doubt = "" if self.reliable else f"; unreliable: {self.reason}"
        return (
            f"{self.value:.4g}{unit} [{low:.4g}, {high:.4g}] "
            f"({100 * self.level:g} %, n={self.n}, {self.method}{doubt})"
        )
