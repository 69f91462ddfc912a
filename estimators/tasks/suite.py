"""The tasks of the benchmark: list, look-up by id, and table of properties."""

from __future__ import annotations

from typing import Any

from estimators.tasks import maps
from estimators.tasks.base import Task
from estimators.tasks.sources import AdditiveUniform, Normal, Source, StudentT


def task(id: str) -> Task:
    """Task by id.

    Raises:
        ValueError: an unknown id; the message lists the known ones.

    Example:
        >>> task("student-identity-5-5-2").name
        'Student-t 5 × 5 (dof=2)'
    """
    for known in TASKS:
        if known.id == id:
            return known
    raise ValueError(f"no task '{id}'; there are {', '.join(known.id for known in TASKS)}")


def table() -> list[dict[str, Any]]:
    """Properties of all tasks, in the order of `TASKS`.

    Returns:
        Dictionaries with id, name, source (class of the distribution), maps_x and maps_y (names,
        in the order applied), dim_x, dim_y and mutual_information (nats).

    Example:
        >>> table()[1]["maps_x"], round(table()[1]["mutual_information"], 6)
        (['normal_cdf'], 0.413339)
    """
    return [
        {
            "id": known.id,
            "name": known.name,
            "source": type(known.source).__name__,
            "maps_x": [step.__name__ for step in known.maps_x],
            "maps_y": [step.__name__ for step in known.maps_y],
            "dim_x": known.dim_x,
            "dim_y": known.dim_y,
            "mutual_information": known.mutual_information,
        }
        for known in TASKS
    ]


def _plain(id: str, name: str, source: Source) -> Task:
    return Task(id, name, source, *source.dims)


def _normal_cdf(base: Task) -> Task:
    step = maps.normal_cdf
    return base.mapped(f"normal_cdf-{base.id}", f"Normal CDF @ {base.name}", x=step, y=step)


def _half_cube(base: Task) -> Task:
    step = maps.half_cube
    return base.mapped(f"half_cube-{base.id}", f"Half-cube @ {base.name}", x=step, y=step)


def _asinh(base: Task) -> Task:
    return base.mapped(f"asinh-{base.id}", f"Asinh @ {base.name}", x=maps.asinh, y=maps.asinh)


def _wiggly(base: Task) -> Task:
    return base.mapped(
        f"wiggly-{base.id}", f"Wiggly @ {base.name}", x=maps.wiggly_x, y=maps.wiggly_y
    )


def _spiral(base: Task) -> Task:
    return base.mapped(
        f"spiral-{base.id}", f"Spiral @ {base.name}", x=maps.spiral_x, y=maps.spiral_y
    )


def _dense(d: int) -> Task:
    name = f"Multinormal {d} × {d} (dense)"
    return _plain(f"multinormal-dense-{d}-{d}-0.5", name, Normal.dense(d, d))


def _pairs(d: int) -> Task:
    # A shared standard normal of weight 2 and noise of weight 1: correlation 4 / (4 + 1).
    name = f"Multinormal {d} × {d} (2-pair)"
    return _plain(f"multinormal-sparse-{d}-{d}-2-2.0", name, Normal.pairs(d, d))


def _student(d: int, df: int) -> Task:
    name = f"Student-t {d} × {d} (dof={df})"
    return _plain(f"student-identity-{d}-{d}-{df}", name, StudentT(d, d, df))


def _additive(width: float) -> Task:
    name = f"Uniform 1 × 1 (additive noise={width})"
    return _plain(f"1v1-additive-{width}", name, AdditiveUniform(width))


def _all() -> tuple[Task, ...]:
    normal = _plain(
        "1v1-normal-0.75", "Bivariate normal 1 × 1", Normal.dense(1, 1, correlation=0.75)
    )
    uniform = _normal_cdf(normal)
    bimodal = uniform.mapped(
        "1v1-bimodal-0.75", "Bimodal 1 × 1", x=maps.bimodal_x, y=maps.bimodal_y
    )
    swiss = uniform.mapped(
        f"swissroll_x-{uniform.id}", "Swiss roll 2 × 1", x=maps.swiss_roll, dim_x=2
    )
    cauchy = _student(1, 1)
    pairs = [_pairs(d) for d in (3, 5, 25)]
    return (
        *(normal, uniform, _additive(0.1), _additive(0.75), bimodal),
        *(_wiggly(normal), _half_cube(normal), cauchy, _asinh(cauchy), swiss),
        *(_dense(d) for d in (2, 3, 5, 25, 50)),
        *(_pairs(2), *pairs),
        *(_student(d, df) for d, df in ((2, 1), (2, 2), (3, 2), (3, 3), (5, 2), (5, 3))),
        *map(_normal_cdf, pairs),
        *map(_half_cube, pairs),
        *map(_spiral, pairs),
        *(_spiral(_normal_cdf(pair)) for pair in pairs),
        *(_asinh(_student(d, df)) for d, df in ((2, 1), (3, 2), (5, 2))),
    )


#: The tasks, in the order of the public benchmark.
TASKS: tuple[Task, ...] = _all()
