"""`Task`: a joint distribution with known mutual information, to sample from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from estimators.tasks.sources import Source

Floats = NDArray[np.float64]
Map = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Task:
    """A joint distribution, transformed by invertible maps, with known mutual information.

    I(f(X); g(Y)) = I(X; Y) for invertible f and g, so every task has the mutual information of its
    source, in closed form.

    Attributes:
        id: unique short name in ASCII.
        name: name in the tables of the public benchmark.
        source: joint distribution of the samples before the maps.
        maps_x: maps of x, applied first to last.
        maps_y: maps of y, applied first to last.
        dim_x: columns of x.
        dim_y: columns of y.

    Source:
        Czyz, Grabowski, Vogt, Beerenwinkel & Marx 2023, "Beyond Normal", arXiv 2306.11078.

    Example:
        >>> from estimators import tasks
        >>> swiss = tasks.task("swissroll_x-normal_cdf-1v1-normal-0.75")
        >>> x, y = swiss.sample(100, seed=0)
        >>> x.shape, y.shape, round(swiss.mutual_information, 4)
        ((100, 2), (100, 1), 0.4133)
    """

    id: str
    name: str
    source: Source
    dim_x: int
    dim_y: int
    maps_x: tuple[Map, ...] = ()
    maps_y: tuple[Map, ...] = ()

    @property
    def mutual_information(self) -> float:
        """True I(X; Y) in nats."""
        return self.source.mutual_information

    def sample(self, n: int, seed: int) -> tuple[Floats, Floats]:
        """Draw independent rows; equal seeds give equal rows.

        Args:
            n: number of rows, at least 1.
            seed: seed of numpy's default generator, at least 0.

        Returns:
            x, float64 array of shape (n, dim_x), and y, of shape (n, dim_y).

        Raises:
            ValueError: n below 1, a negative seed.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        x, y = self.source.draw(n, np.random.default_rng(seed))
        for step in self.maps_x:
            x = step(x)
        for step in self.maps_y:
            y = step(y)
        return x, y

    def mapped(
        self,
        id: str,
        name: str,
        *,
        x: Map | None = None,
        y: Map | None = None,
        dim_x: int | None = None,
    ) -> Task:
        """A copy with one more map of x or y.

        Args:
            id: id of the new task.
            name: name of the new task.
            x: invertible map of the rows of x.
            y: invertible map of the rows of y.
            dim_x: columns of x after its map, if changed.
        """
        return replace(
            self,
            id=id,
            name=name,
            dim_x=dim_x or self.dim_x,
            maps_x=(*self.maps_x, *([x] if x else [])),
            maps_y=(*self.maps_y, *([y] if y else [])),
        )
