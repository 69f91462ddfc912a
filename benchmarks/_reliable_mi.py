"""Systems of known truth: mutual information, conditional and with labels."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks._reliable_system import System
from estimators import mutual_information, tasks
from estimators.estimate import Estimate

MI = "mutual information"


def of_task(task: tasks.Task, rng: np.random.Generator) -> Estimate:
    """The estimate of a public task at 10,000 rows."""
    return mutual_information(*task.sample(10_000, seed=int(rng.integers(2**31))))


def gaussian(n: int, d: int, rho: float, rng: np.random.Generator) -> Estimate:
    """`d` pairs of correlation rho."""
    x, e = rng.normal(size=(2, n, d))
    return mutual_information(x, rho * x + (1 - rho**2) ** 0.5 * e)


SYSTEMS: tuple[System, ...] = (
    *(
        System(
            f"Gaussian {d} + {d}, n = {n}, r = {rho}",
            MI,
            -0.5 * d * float(np.log1p(-(rho**2))),
            partial(gaussian, n, d, rho),
            benign=True,
            suite="gaussians",
        )
        for n, d, rho in ((1000, 1, 0.0), (1000, 2, 0.6), (1000, 10, 0.3), (2500, 25, 0.5))
    ),
    *(
        System(
            f"task {task.id}", MI, task.mutual_information, partial(of_task, task), suite="tasks"
        )
        for task in tasks.TASKS
    ),
)
