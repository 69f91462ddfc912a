"""`Profile`: the geometry of every layer of a network, per token group, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from estimators.estimate import Estimate
from estimators.frames import frame_of
from estimators.record import Record
from estimators.streaming import MEASURES, TAIL_GRID, MeanAccumulator, PairAccumulator

if TYPE_CHECKING:
    from pandas import DataFrame

QUANTILE_LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
INDEX_CONVENTION = (
    "layers are 0-based; state l is the input of layer l; "
    "state L is the output of the last layer before the final norm"
)


@dataclass(frozen=True, kw_only=True)
class Profile(Record):
    """Geometry of every layer, per token group. Layer l maps state l to state l + 1.

    Attributes:
        model: name of the model, for the record.
        n_layers: number L of layers.
        groups: token groups with at least one row, for example ("vision", "text").
        measures: estimates[layer] by group and measure. A group may lack a measure.
        tail_grid: thresholds of the cosine distance, ascending.
        tails: P(cosine distance > threshold) by group, layer and threshold.
        quantile_levels: levels in (0, 1).
        quantiles: quantiles of the cosine distance by group, layer and level.
        n_images: number of images, the independent clusters of the data.
        n_rows: rows (tokens) per layer, by group.
        data_hash: hash of the data, for traceability.
        fingerprint: hash of the model's weights; empty if the profile is of states alone.
        images: identities of the images, for checks that two uses of images are independent.
        index_convention: definition of the layer index.

    Raises:
        ValueError: lengths that disagree with n_layers, the grid or the levels; a group that is
            not listed in `groups`.

    Example:
        >>> import numpy as np
        >>> from estimators import profile_states
        >>> x = np.random.default_rng(0).normal(size=(50, 8))
        >>> profile = profile_states([x, 3.0 * x, -3.0 * x])
        >>> profile.values("all", "cosine_distance").tolist()
        [0.0, 2.0]
    """

    model: str
    n_layers: int
    groups: tuple[str, ...]
    measures: Mapping[str, Mapping[str, tuple[Estimate, ...]]]
    tail_grid: tuple[float, ...]
    tails: Mapping[str, tuple[tuple[Estimate, ...], ...]]
    quantile_levels: tuple[float, ...]
    quantiles: Mapping[str, tuple[tuple[float, ...], ...]]
    n_images: int
    n_rows: Mapping[str, int]
    data_hash: str
    fingerprint: str = ""
    images: tuple[str, ...] = ()
    index_convention: str = INDEX_CONVENTION

    def __post_init__(self) -> None:
        for name in ("measures", "tails", "quantiles", "n_rows"):
            unknown = set(getattr(self, name)) - set(self.groups)
            if unknown:
                raise ValueError(f"{name} has groups not in {self.groups}: {sorted(unknown)}")
        for group, table in self.measures.items():
            for measure, layers in table.items():
                _check_length(f"measures[{group}][{measure}]", layers, self.n_layers)
        for name, width in (
            ("tails", len(self.tail_grid)),
            ("quantiles", len(self.quantile_levels)),
        ):
            for group, rows in getattr(self, name).items():
                _check_length(f"{name}[{group}]", rows, self.n_layers)
                for layer, row in enumerate(rows):
                    _check_length(f"{name}[{group}][{layer}]", row, width)

    def estimates(self, group: str, measure: str) -> tuple[Estimate, ...]:
        """One estimate per layer.

        Raises:
            ValueError: unknown group or measure; the message lists the known ones.
        """
        if group not in self.measures:
            raise ValueError(f"no group '{group}'; this profile has {_names(self.measures)}")
        table = self.measures[group]
        if measure not in table:
            raise ValueError(f"group '{group}' has no '{measure}'; it has {_names(table)}")
        return table[measure]

    def values(self, group: str, measure: str) -> NDArray[np.float64]:
        """The point estimates of one measure, array of shape (n_layers,).

        Raises:
            ValueError: unknown group or measure; the message lists the known ones.
        """
        return np.array([estimate.value for estimate in self.estimates(group, measure)])

    def to_pandas(self) -> DataFrame:
        """A row for each group, measure and layer, with value, interval and number of rows.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return frame_of(
            {"group": group, "measure": name, "layer": layer, "value": each, "n": each.n}
            for group, table in self.measures.items()
            for name, layers in table.items()
            for layer, each in enumerate(layers)
        )

    @classmethod
    def build(
        cls,
        model: str,
        accumulators: Mapping[str, Sequence[PairAccumulator]],
        *,
        extra: Mapping[str, Mapping[str, Sequence[MeanAccumulator]]] | None = None,
        estimates: Mapping[str, Mapping[str, Sequence[Estimate]]] | None = None,
        n_images: int,
        data_hash: str,
        quantile_levels: Sequence[float] = QUANTILE_LEVELS,
        level: float = 0.95,
    ) -> Self:
        """Build a profile from accumulators; groups without rows are omitted.

        Args:
            model: name of the model.
            accumulators: one accumulator per layer, by group.
            extra: one accumulator per layer, by group and name of a further measure. Measures
                without rows are omitted.
            estimates: one estimate per layer, by group and name of a further measure.
            n_images: number of images, the independent clusters.
            data_hash: hash of the data.
            quantile_levels: levels of the quantiles of the cosine distance.
            level: confidence of every interval.

        Raises:
            ValueError: groups of different depth, layers of a group with different numbers of
                rows, a further measure whose name is taken, estimates of a group without rows, no
                rows at all.
        """
        extra = extra or {}
        n_layers = _common_depth(accumulators, extra)
        measures: dict[str, dict[str, tuple[Estimate, ...]]] = {}
        n_rows: dict[str, int] = {}
        full: dict[str, Sequence[PairAccumulator]] = {}
        for group, layers in accumulators.items():
            rows = _rows_per_layer(layers, group)
            if rows:
                full[group], n_rows[group] = layers, rows
                measures[group] = {
                    name: tuple(layer.mean(name, level=level) for layer in layers)
                    for name in MEASURES
                }
        for group, table in extra.items():
            for name, means in table.items():
                if name in MEASURES:
                    raise ValueError(f"'{name}' is a standard measure; name the extra one anew")
                rows = _rows_per_layer(means, f"{group} {name}")
                if rows:
                    n_rows.setdefault(group, rows)
                    by_layer = tuple(layer.mean(level=level) for layer in means)
                    measures.setdefault(group, {})[name] = by_layer
        for group, ready in (estimates or {}).items():
            for name, finished in ready.items():
                if group not in measures or name in measures[group]:
                    raise ValueError(f"group '{group}' has no rows, or has '{name}' already")
                measures[group][name] = tuple(finished)
        if not measures:
            raise ValueError("no group has any rows; there is nothing to profile")
        return cls(
            model=model,
            n_layers=n_layers,
            groups=tuple(measures),
            measures=measures,
            tail_grid=TAIL_GRID,
            tails={g: tuple(layer.tails(level=level) for layer in full[g]) for g in full},
            quantile_levels=tuple(quantile_levels),
            quantiles={
                g: tuple(layer.quantiles(quantile_levels) for layer in full[g]) for g in full
            },
            n_images=n_images,
            n_rows=n_rows,
            data_hash=data_hash,
        )


def _common_depth(
    accumulators: Mapping[str, Sequence[PairAccumulator]],
    extra: Mapping[str, Mapping[str, Sequence[MeanAccumulator]]],
) -> int:
    depths = {group: len(layers) for group, layers in accumulators.items()}
    for group, table in extra.items():
        depths.update({f"{group} {name}": len(layers) for name, layers in table.items()})
    if len(set(depths.values())) != 1 or 0 in depths.values():
        raise ValueError(f"every group needs one accumulator per layer, got {depths}")
    return next(iter(depths.values()))


def _rows_per_layer(layers: Sequence[PairAccumulator | MeanAccumulator], what: str) -> int:
    counts = [layer.n_rows for layer in layers]
    for layer, count in enumerate(counts):
        if count != counts[0]:
            raise ValueError(f"{what}: layer {layer} has {count} rows, layer 0 has {counts[0]}")
    return counts[0]


def _check_length(name: str, items: Sequence[object], expected: int) -> None:
    if len(items) != expected:
        raise ValueError(f"{name} has {len(items)} entries, expected {expected}")


def _estimates(items: Sequence[Mapping[str, Any]]) -> tuple[Estimate, ...]:
    return tuple(Estimate.from_json(item) for item in items)


def _names(table: Mapping[str, object]) -> str:
    return ", ".join(table)
