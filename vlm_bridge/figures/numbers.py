"""Numbers in pages, tables and terminal output: the only place that formats them."""

from __future__ import annotations

import math

from estimators import Estimate

_NBSP = "\N{NO-BREAK SPACE}"


def bracketed(estimate: Estimate | None, form: str = ".2f") -> str:
    """An estimate with its interval in plain text; a dash for None and NaN; a star: not reliable.

    >>> bracketed(Estimate(value=0.5, interval=(0.25, 0.75), n=9, method="demo"))
    '0.50 [0.25, 0.75]'
    """
    if estimate is None or math.isnan(estimate.value):
        return "-"
    low, high = estimate.interval
    star = "" if estimate.reliable else "*"
    return f"{estimate.value:{form}} [{low:{form}}, {high:{form}}]{star}"


def ranged(estimate: Estimate, form: str = ".1%") -> str:
    """An estimate with its interval in words, for the terminal.

    >>> ranged(Estimate(value=0.5, interval=(0.25, 0.75), n=9, method="demo"))
    '50.0% (25.0% to 75.0%)'
    """
    low, high = estimate.interval
    return f"{estimate.value:{form}} ({low:{form}} to {high:{form}})"


def quantity(estimate: Estimate, form: str = "share") -> str:
    r"""An estimate with its interval on a page, and the reason if it is unreliable.

    `form` is "share" (percent), "points" (percentage points, no sign) or "ratio".

    >>> quantity(Estimate(value=0.01, interval=(0.0, 0.03), n=9, method="demo"))
    '1.0\xa0% [0.0,\xa03.0]'
    """
    write = ratio if form == "ratio" else lambda value: number(100 * value)
    low, high = map(write, estimate.interval)
    unit = f"{_NBSP}%" if form == "share" else ""
    doubt = "" if estimate.reliable else f" (not reliable: {estimate.reason})"
    return f"{write(estimate.value)}{unit} [{low},{_NBSP}{high}]{doubt}"


def number(percent: float) -> str:
    """One decimal, two below one, with a true minus sign.

    >>> number(98.51), number(-0.2), number(float("inf"))
    ('98.5', '−0.20', 'unbounded')
    """
    if not math.isfinite(percent):
        return "unbounded" if math.isinf(percent) else "unknown"
    digits = 1 if abs(percent) >= 1 or percent == 0 else 2
    return f"{round(percent, digits) + 0.0:.{digits}f}".replace("-", "−")  # + 0.0: no minus zero


def share(value: float) -> str:
    r"""A measured share in percent.

    >>> share(0.9851), share(0.0012)
    ('98.5\xa0%', '0.12\xa0%')
    """
    return f"{number(100 * value)}{_NBSP}%"


def exact(value: float) -> str:
    r"""A chosen share, such as epsilon, in percent.

    >>> exact(0.02)
    '2\xa0%'
    """
    return f"{100 * value:g}{_NBSP}%"


def ratio(value: float) -> str:
    """A ratio with two decimals.

    >>> ratio(0.804), ratio(float("inf"))
    ('0.80', 'unbounded')
    """
    return f"{value:.2f}" if math.isfinite(value) else number(value)


def raw(value: float) -> str:
    """A float in full precision for `data-` attributes; empty for NaN.

    >>> raw(0.1), raw(float("nan"))
    ('0.1', '')
    """
    return "" if math.isnan(value) else repr(float(value))


def rounded_up(value: float) -> str:
    """An upper bound in percent, rounded up.

    >>> rounded_up(0.01431)
    '1.44'
    """
    return f"{math.ceil(value * 1e4 - 1e-9) / 100:.2f}".replace("-", "−")
