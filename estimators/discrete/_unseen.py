"""Symbols that a sample may have missed, and how far they move a measure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import gammaincinv

from estimators.discrete._samples import Codes, joint_codes
from estimators.discrete._terms import Terms
from estimators.discrete.corrections import CORRECTIONS, Counts

#: Largest alphabet that is thought of where nothing bounds it.
MOST_SYMBOLS = 1e6


def unseen_entropy_of(counts: Counts, room: float) -> float:
    """Entropy in nats that symbols which were not observed may add, at most `room` of them.

    The observed symbols miss about a share f1 / n of the probability, spread over about
    `f1 (f1 - 1) / (2 f2)` symbols, where f1 occur once and f2 twice: together
    `(f1 / n) ln(1 + symbols)`, with the 95 % limits of Poisson means: upper for f1, lower for f2.
    Without repeats nothing but `room` and `MOST_SYMBOLS` bounds the number. Zero where f1 is.

    Source:
        Chao 1984, "Nonparametric estimation of the number of classes in a population".
    """
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    if not once:
        return 0.0
    most, repeats = float(gammaincinv(once + 1, 0.95)), float(gammaincinv(max(twice, 1), 0.05))
    symbols = most * (most - 1.0) / (2.0 * repeats) if twice else MOST_SYMBOLS
    symbols = min(symbols, MOST_SYMBOLS, room)
    return min(most / float(counts.sum()), 1.0) * math.log1p(symbols)


def open_alphabets(codes: Codes, given: Sequence[int] | None) -> list[float]:
    """Largest possible alphabet of each variable: given, observed, or infinite.

    An alphabet that is not given is complete where every observed symbol occurs at least twice.
    """
    if given is not None:
        return [float(size) for size in given]
    tables = [np.bincount(column) for column in codes.T]
    return [math.inf if (table == 1).any() else float(table.size) for table in tables]


def unseen_moves(
    codes: Codes, terms: Terms, method: str, sizes: tuple[int, ...], largest: Sequence[float]
) -> tuple[float, float]:
    """How far unseen symbols may lower and raise a signed sum of entropies, in nats.

    An entropy lacks `unseen_entropy_of`, and what `method` corrects less than "grassberger". An
    entropy with a negative sign lowers the measure.
    """
    down = up = 0.0
    for c, axes in terms:
        counts: Counts = np.bincount(joint_codes(codes, axes)).astype(np.int64)
        room = math.prod(largest[axis] for axis in axes) - counts.size
        if room <= 0.0 or not (counts == 1).any():
            continue
        alphabet = int(np.prod([sizes[axis] for axis in axes], dtype=object))
        less = CORRECTIONS["grassberger"](counts, 0) - CORRECTIONS[method](counts, alphabet)
        move = abs(c) * (unseen_entropy_of(counts, room) + max(less, 0.0))
        down, up = (down, up + move) if c > 0 else (down + move, up)
    return down, up
