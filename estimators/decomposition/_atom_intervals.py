"""Intervals of atoms that do not leave what is possible, and the verdict on all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from estimators._reliability import verdict

#: An interval reaches down to zero unless its atom exceeds this many lower half widths. Near zero
#: an atom's distribution is skewed, so that a normal interval excludes zero too often.
_ABOVE_ZERO = 1.5

Interval = tuple[float, float]


def atom_interval(
    value: float, below: float, above: float, most: float = float("inf"), *, least: float = 0.0
) -> Interval:
    """Interval from `value - below` to `value + above`, cut to [least, most].

    With `least = 0` it starts at zero unless the value is at least 1.5 times `below`.

    Example:
        >>> atom_interval(-0.01, 0.05, 0.05), atom_interval(0.06, 0.05, 0.05)
        ((0.0, 0.04), (0.0, 0.11))
    """
    low, high = value - below, value + above
    if least == 0.0 and value < _ABOVE_ZERO * below:
        low = 0.0
    return min(max(low, least), most), min(max(high, least), most)


def atoms_verdict(
    atoms: Mapping[str, float], intervals: Mapping[str, Interval], failed: Iterable[str] = ()
) -> tuple[bool, str]:
    """Whether the interval of every atom is narrow and no check failed, and the reason if not.

    Args:
        atoms: estimates in nats.
        intervals: their intervals, in nats.
        failed: messages of the checks that failed.

    Example:
        >>> atoms_verdict({"redundant": 0.2}, {"redundant": (0.0, 0.4)})[1]
        'redundant: half width 0.2 nats is over 0.1'
    """
    reasons = [line for line in failed if line]
    for name in sorted(intervals, key=lambda atom: intervals[atom][0] - intervals[atom][1]):
        narrow, reason = verdict(atoms[name], intervals[name])
        if not narrow:
            reasons.append(f"{name}: {reason}")
            break
    return not reasons, "; ".join(reasons)
