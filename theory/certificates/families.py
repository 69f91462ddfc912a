"""Many plans on the same images: which of them may be promised, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from estimators.clustered import Labels
from estimators.record import Record
from theory._validate import check_fraction
from theory.certificates.certificate import RANGES, check_request
from theory.certificates.certify import ASSUMED, as_sample

CONTROLS = ("bonferroni", "holm", "fixed-sequence")


@dataclass(frozen=True)
class Selection(Record):
    """The plans whose loss is at most epsilon, all of them with probability 1 - delta.

    Attributes:
        quantity: "disagreement" or "accuracy_drop".
        epsilon: what is promised of every certified plan.
        delta: probability that any of the promises may be wrong (family-wise error rate).
        n_images: number of independent images.
        method: the bound the p-values come from.
        control: "bonferroni", "holm" or "fixed-sequence".
        p_values: of "the loss of plan j is at least epsilon", one per plan.
        certified: indices of the plans that may be promised, ascending.
        assumed: what was not checked.

    Raises:
        ValueError: a certified index that is no plan.

    Example:
        >>> one = Selection("disagreement", 0.02, 0.05, 300, "hoeffding-bentkus", "holm",
        ...                 (0.01, 0.3), (0,), ())
        >>> Selection.from_json(one.to_json()) == one
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
        strangers = sorted(set(self.certified) - set(range(len(self.p_values))))
        if strangers:
            raise ValueError(f"certified {strangers} but there are {len(self.p_values)} plans")


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
    """Learn then Test: one p-value per plan, then control of the family-wise error.

    Every plan j has the null hypothesis "its loss is at least epsilon". The plans whose null
    is refuted can be promised together: with probability 1 - delta none of them loses more
    than epsilon, so any choice among them is safe, whatever it looks at.

    Args:
        values: array of shape (plans, n_values); each row as in `certify_mean`. The plans were
            chosen without these images; their number is what is paid for.
        clusters: the image of each value, n_values hashable labels.
        quantity: "disagreement" or "accuracy_drop".
        epsilon: what is to be promised, in (0, 1).
        delta: family-wise error rate, in (0, 1).
        method: as in `certify_mean`, without "auto".
        control: "bonferroni" or "holm" (no order needed), or "fixed-sequence": plans in an
            order fixed beforehand, the safest first; see `rejected`.
        starts: where a fixed sequence starts; several starts share delta.
        seed: as in `certify_mean`.

    Raises:
        ValueError: as `certify_mean`; values not of shape (plans, n_values); an unknown control.

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
    table = np.asarray(values, dtype=np.float64)
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
        assumed=ASSUMED,
    )


def rejected(
    p_values: Sequence[float],
    delta: float,
    *,
    control: str = "bonferroni",
    starts: Sequence[int] = (0,),
) -> tuple[int, ...]:
    """Null hypotheses refuted with family-wise error at most delta, for dependent p-values too.

        bonferroni      p_j <= delta / m
        holm            the i-th smallest p <= delta / (m - i + 1), up to the first that is not
        fixed-sequence  from each start on in the given order p_j <= delta / len(starts), up to
                        the first that is not; the order must not depend on these data

    Args:
        p_values: m of them.
        delta: family-wise error rate, in (0, 1).
        control: one of the three.
        starts: indices a fixed sequence starts from; used by that control only.

    Returns:
        Indices, ascending.

    Raises:
        ValueError: an unknown control, no p-values or one outside [0, 1], delta outside (0, 1),
            a start that is no index.

    Source:
        Holm 1979; Maurer et al. 1995 (fixed sequence); arXiv 2110.01052, section 2.2.

    Example:
        >>> p = [0.004, 0.03, 0.6, 0.02]
        >>> [rejected(p, 0.05, control=c) for c in ("bonferroni", "holm", "fixed-sequence")]
        [(0,), (0,), (0, 1)]
    """
    check_fraction(delta, "delta")
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not p.size or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values must be a list of numbers in [0, 1], got {p_values}")
    if control not in CONTROLS:
        raise ValueError(f"unknown control '{control}'; choose from {', '.join(CONTROLS)}")
    if control == "bonferroni":
        return tuple(np.flatnonzero(p <= delta / p.size).tolist())
    if control == "holm":
        order = np.argsort(p, kind="stable")
        passed = p[order] <= delta / (p.size - np.arange(p.size))
        return tuple(sorted(order[np.cumprod(passed).astype(bool)].tolist()))
    if not starts or not all(0 <= start < p.size for start in starts):
        raise ValueError(f"starts must be indices from 0 to {p.size - 1}, got {tuple(starts)}")
    found: set[int] = set()
    for start in starts:
        failed = np.flatnonzero(p[start:] > delta / len(starts))
        stop = start + int(failed[0]) if failed.size else p.size
        found.update(range(start, stop))
    return tuple(sorted(found))
