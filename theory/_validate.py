"""Checks shared by the public functions of this package."""

from __future__ import annotations


def check_fraction(number: float, name: str) -> None:
    """A number strictly between 0 and 1 (a risk, a tolerance)."""
    if not 0.0 < number < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {number}")
