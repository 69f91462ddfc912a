"""Simultaneous certificates for several plans on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from estimators.clustered import Labels
from estimators.record import Record
from theory._validate import (
    check_array,
    check_choice,
    check_count,
    check_counts,
    check_fraction,
    shown,
)
from theory.certificates.certificate import RANGES, check_request
from theory.certificates.certify import as_sample, assumed

CONTROLS = ("bonferroni", "holm", "fixed-sequence")


@dataclass(frozen=True)
class Selection(Record):
    """Plans certified to lose at most epsilon, all simultaneously with probability 1 - delta.

    Attributes:
        quantity: "disagreement" or "accuracy_drop".
        epsilon: tolerance for the loss of every certified plan.
        delta: family-wise error rate: maximum probability of certifying any unsafe plan.
        n_images: number of independent images.
        method: bound from which the p-values are derived.
        control: "bonferroni", "holm" or "fixed-sequence".
        p_values: of "the loss of plan j is at least epsilon", one per plan.
        certified: indices of the certified plans, ascending.
        assumed: conditions that cannot be verified on the data.

    Raises:
        ValueError: a certified index is out of range.

    Example:
        >>> selection = Selection(
        ...     "disagreement", 0.02, 0.05, 300, "hoeffding-bentkus", "holm", (0.01, 0.3), (0,), ()
        ... )
        >>> Selection.from_json(selection.to_json()) == selection
        True
    """

    quantity: str
    epsilon: float
    delta: float
    n_images: int
    method: str
    control: str
    p_values: tuple[float, ...]
    certified: tuple[int, ...]
    assumed: tuple[str, ...]

    def __post_init__(self) -> None:
        out_of_range = sorted(set(self.certified) - set(range(len(self.p_values))))
        if out_of_range:
            raise ValueError(
                f"certified {out_of_range}, but the indices of the plans are 0 to "
                f"{len(self.p_values) - 1}"
            )


def learn_then_test(
    values: ArrayLike,
    clusters: Labels,
    *,
    quantity: str,
    epsilon: float,
    delta: float,
    method: str = "hoeffding-bentkus",
    control: str = "bonferroni",
    starts: Sequence[int] = (0,),
    seed: int = 0,
) -> Selection:
    """Learn then Test: one p-value per plan, then control of the family-wise error rate.

    The null hypothesis for plan j is "its loss is at least epsilon". With probability 1 - delta
    all plans whose null hypothesis is rejected lose at most epsilon, so any of them may be
    chosen, by any criterion.

    Args:
        values: array of shape (plans, n_values); each row as in `certify_mean`. The plans must be
            chosen without these images; the correction grows with their number.
        clusters: the image of each value, n_values hashable labels.
        quantity: "disagreement" or "accuracy_drop".
        epsilon: tolerance, in (0, 1).
        delta: family-wise error rate, in (0, 1).
        method: as in `certify_mean`, without "auto".
        control: "bonferroni", "holm", or "fixed-sequence" for plans in an order fixed in
            advance, the safest first; see `rejected`.
        starts: indices at which fixed sequences start; delta is split equally among them.
        seed: as in `certify_mean`.

    Raises:
        ValueError: as `certify_mean`; values not of shape (plans, n_values); unknown control.

    Source:
        Angelopoulos, Bates, Candes, Jordan & Lei 2021, arXiv 2110.01052, Theorem 1 and
        Algorithm 1.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> losses = rng.random((3, 800)) < np.array([[0.001], [0.003], [0.2]])
        >>> learn_then_test(
        ...     losses, range(800), quantity="disagreement", epsilon=0.02, delta=0.05
        ... ).certified
        (0, 1)
    """
    check_count(seed, "seed", least=0)
    check_choice(control, "control", CONTROLS)
    check_counts(starts, "starts")
    table = check_array(values, "values")
    if table.ndim != 2 or not len(table):
        raise ValueError(f"values must have shape (plans, n_values), got {table.shape}")
    check_request(quantity, epsilon, delta, method)
    low, high = RANGES[quantity]
    if not low < epsilon < high:
        raise ValueError(f"epsilon {epsilon} is not inside the range [{low:g}, {high:g}]")
    samples = [
        as_sample(row, clusters, quantity=quantity, method=method, seed=seed) for row in table
    ]
    p_values = tuple(sample.p_value(epsilon) for sample in samples)
    return Selection(
        quantity=quantity,
        epsilon=epsilon,
        delta=delta,
        n_images=samples[0].values.size,
        method=method,
        control=control,
        p_values=p_values,
        certified=rejected(p_values, delta, control=control, starts=starts),
        assumed=assumed(samples[0].values.size),
    )


def rejected(
    p_values: Sequence[float],
    delta: float,
    *,
    control: str = "bonferroni",
    starts: Sequence[int] = (0,),
) -> tuple[int, ...]:
    """Null hypotheses rejected with family-wise error rate at most delta, under any dependence.

        bonferroni      reject if p_j <= delta / m
        holm            reject in ascending order of p while the i-th p <= delta / (m - i + 1)
        fixed-sequence  reject in the given order from each start while
                        p_j <= delta / len(starts); the order must not depend on these data

    Args:
        p_values: m p-values.
        delta: family-wise error rate, in (0, 1).
        control: "bonferroni", "holm" or "fixed-sequence".
        starts: indices at which fixed sequences start.

    Returns:
        Indices of the rejected hypotheses, ascending.

    Raises:
        ValueError: unknown control, no p-values, a p-value outside [0, 1], delta outside (0, 1),
            or a start out of range.

    Source:
        Holm 1979; Maurer et al. 1995 (fixed sequence); arXiv 2110.01052, section 2.2.

    Example:
        >>> p = [0.004, 0.03, 0.6, 0.02]
        >>> [rejected(p, 0.05, control=c) for c in ("bonferroni", "holm", "fixed-sequence")]
        [(0,), (0,), (0, 1)]
    """
    check_fraction(delta, "delta")
    p = check_array(p_values, "p_values")
    if p.ndim != 1 or not p.size or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p_values must be a list of numbers in [0, 1], got {shown(p_values)}")
    check_choice(control, "control", CONTROLS)
    check_counts(starts, "starts")
    if control == "bonferroni":
        return tuple(np.flatnonzero(p <= delta / p.size).tolist())
    if control == "holm":
        order = np.argsort(p, kind="stable")
        passed = p[order] <= delta / (p.size - np.arange(p.size))
        return tuple(sorted(order[np.cumprod(passed).astype(bool)].tolist()))
    if not starts or not all(start < p.size for start in starts):
        raise ValueError(f"starts must be indices from 0 to {p.size - 1}, got {tuple(starts)}")
    indices: set[int] = set()
    for start in starts:
        failed = np.flatnonzero(p[start:] > delta / len(starts))
        stop = start + int(failed[0]) if failed.size else p.size
        indices.update(range(start, stop))
    return tuple(sorted(indices))
