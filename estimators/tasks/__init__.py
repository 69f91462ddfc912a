"""The 40 tasks of the "Beyond Normal" benchmark, with known mutual information.

Source:
    Czyz, Grabowski, Vogt, Beerenwinkel & Marx 2023, arXiv 2306.11078, table 1 and figure 2.

Example:
    >>> import numpy as np
    >>> from estimators import tasks
    >>> len(tasks.TASKS)
    40
    >>> task = tasks.task("1v1-normal-0.75")
    >>> x, y = task.sample(10_000, seed=0)
    >>> r = np.corrcoef(x[:, 0], y[:, 0])[0, 1]
    >>> bool(abs(-0.5 * np.log(1 - r**2) - task.mutual_information) < 0.03)
    True
"""

from estimators.tasks.base import Task as Task
from estimators.tasks.suite import TASKS as TASKS
from estimators.tasks.suite import table as table
from estimators.tasks.suite import task as task

__all__ = ["TASKS", "Task", "table", "task"]
