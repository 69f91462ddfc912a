"""Systems of known truth: entropy, probes, discrete estimates, CKA, rank, dimension."""

from __future__ import annotations

import numpy as np

from benchmarks._reliable_system import System
from estimators import entropy

SYSTEMS: tuple[System, ...] = (
    System(
        "entropy of a Gaussian, 5 columns",
        "entropy",
        2.5 * float(np.log(2 * np.pi * np.e)),
        lambda rng: entropy(rng.normal(size=(1000, 5))),
        benign=True,
    ),
)
