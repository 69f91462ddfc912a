"""Verdict on an estimate: reliable if its interval is narrow and no check failed."""

from __future__ import annotations

import math
from collections.abc import Iterable

#: An interval is narrow if its half width is at most this many nats, or this share of the value.
HALF_WIDTH_NATS = 0.1
HALF_WIDTH_SHARE = 0.1


def verdict(
    value: float, interval: tuple[float, float], failed: Iterable[str] = ()
) -> tuple[bool, str]:
    """Whether an estimate in nats is reliable, and the reason if not.

    `reliable = (half width <= max(0.1, 0.1 |value|)) and no failed check`.

    Args:
        value: the estimate in nats.
        interval: its confidence interval, in nats.
        failed: messages of the method's checks that failed.

    Example:
        >>> verdict(1.0, (0.95, 1.05))
        (True, '')
        >>> verdict(1.0, (0.5, 1.5), ["rows are not alike"])[1]
        'rows are not alike; half width 0.5 nats is over 0.1'
    """
    reasons = [line for line in failed if line]
    half = (interval[1] - interval[0]) / 2.0
    most = max(HALF_WIDTH_NATS, HALF_WIDTH_SHARE * abs(value))
    if math.isnan(value):
        reasons.append("no value could be computed")
    elif not half <= most:
        reasons.append(f"half width {half:.3g} nats is over {most:.3g}")
    return not reasons, "; ".join(reasons)
