"""Bias correction and standard errors of PID atoms by a smooth bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators.decomposition._solved import TOLERANCE, Solved
from estimators.decomposition.exchangeability import exchangeability_p_value
from estimators.decomposition.smooth import smooth_model
from estimators.discrete.corrections import grassberger_terms

Floats = NDArray[np.float64]

# Above this p-value the sources are treated as exchangeable.
_TIE = 0.1
# Standard error of the correction, as a share of it; from measured coverage.
_BIAS_SHARE = 0.15
# Factor of the standard error, from measured coverage.
_STRETCH = 1.07


@dataclass(frozen=True)
class Corrected:
    """Corrected atoms in nats, and their standard errors."""

    atoms: Floats
    error: Floats
    diagnostics: dict[str, float | int | str]


def correct_bias(
    table: NDArray[np.int64],
    plugin: Solved,
    measure: str,
    resamples: int,
    rng: np.random.Generator,
) -> Corrected:
    n = int(table.sum())
    smooth = smooth_model(table, rng)
    tie = exchangeability_p_value(table)
    p = smooth.p
    if tie > _TIE:
        p = 0.5 * (p + p.transpose(1, 0, 2))
    drawn = rng.multinomial(n, p.ravel(), size=resamples).reshape(resamples, *table.shape)
    solved = Solved.of(np.concatenate([p[None], drawn / n]), measure, TOLERANCE / n).atoms
    truth, again = solved[0], solved[1:]
    again = _with_grassberger_total(again, drawn)
    atoms = _with_grassberger_total(plugin.atoms[:1], table[None])[0] - (again.mean(axis=0) - truth)
    spread = again.std(axis=0, ddof=1)
    if plugin.influence is not None:
        weights = table.ravel() / n
        centred = plugin.influence - plugin.influence @ weights[:, None]
        spread = np.maximum(spread, np.sqrt(centred**2 @ weights / n))
    moved = plugin.atoms[0] - atoms
    error = _STRETCH * np.sqrt(spread**2 + (_BIAS_SHARE * moved) ** 2)
    return Corrected(
        atoms,
        error + TOLERANCE / n,  # at least the error of the solver
        {
            "model": smooth.model,
            "model_weight": smooth.weight / n,
            "tie_p_value": tie,
            "symmetrised": int(tie > _TIE),
        },
    )


def _with_grassberger_total(atoms: Floats, tables: NDArray[np.int64]) -> Floats:
    """Atoms with synergy adjusted to Grassberger's total; nats, shape (b, 4).

    Only synergy depends on the total, whose three entropies are corrected.
    """
    size = tables[0].sum()

    def entropy(counts: NDArray[np.int64]) -> Floats:
        terms = grassberger_terms(counts).reshape(len(tables), -1)
        result: Floats = np.log(size) - terms.sum(axis=1) / size
        return result

    total = entropy(tables.sum(axis=3)) + entropy(tables.sum(axis=(1, 2))) - entropy(tables)
    return np.column_stack([atoms[:, :3], total - atoms[:, :3].sum(axis=1)])
