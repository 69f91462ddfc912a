"""Argument checks shared by the public functions of this package."""

from __future__ import annotations


def check_fraction(number: float, name: str) -> None:
    """Raise ValueError unless a number lies strictly between 0 and 1."""
    if not 0.0 < number < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {number}")
