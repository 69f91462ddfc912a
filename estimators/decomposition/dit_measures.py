"""Measures of the package dit, by name; dit is imported on use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.decomposition.result import PID
from estimators.extras import require

Floats = NDArray[np.float64]

_PREFIX = "PID_"
#: Names of the measures of dit 2.3 that are not implemented here, known without importing dit.
DIT_MEASURES = tuple(
    (
        "ct deg delta deltalambda dep do gh gk ig ipid mc mes pm "
        "prec proj ra rav rdr rr skar_nw skar_owa skar_owb skar_tw sx wb"
    ).split()
)
#: dit's default BROJA errs by up to 0.2 bit; it is replaced by our solver.
_REPLACED = ("broja",)


def dit_measure_names() -> tuple[str, ...]:
    """Names of dit's measures in lower case: "dep" for `dit.pid.PID_dep`. Imports dit.

    Example:
        >>> {"dep", "proj", "pm"} <= set(dit_measure_names())
        True
    """
    return tuple(sorted(_classes()))


def dit_decomposition(p: Floats, measure: str) -> PID:
    """The decomposition of p[x1, x2, y] by a measure of dit, in nats.

    Args:
        p: array p[x1, x2, y], not checked.
        measure: one of `dit_measure_names()`.

    Raises:
        ValueError: a measure that leaves atoms undetermined or needs a missing package.
    """
    classes = _classes()
    import dit

    if measure not in classes:
        raise ValueError(f"dit {dit.__version__} has no measure '{measure}'")
    try:
        pid = classes[measure](dit_distribution(p))
    except ImportError as error:
        raise ValueError(f"dit's measure '{measure}' needs a package: {error}") from error
    keys = (((0,), (1,)), ((0,),), ((1,),), ((0, 1),))
    bits = [float(pid.get_pi(key)) for key in keys]
    if not np.isfinite(bits).all():
        raise ValueError(f"dit's measure '{measure}' leaves atoms undetermined: {bits}")
    redundant, unique_1, unique_2, synergistic = (float(v * np.log(2.0)) for v in bits)
    return PID(
        redundant=redundant,
        unique_1=unique_1,
        unique_2=unique_2,
        synergistic=synergistic,
        unit="nats",
        measure=measure,
        method=f"dit {dit.__version__}",
    )


def dit_distribution(p: Floats) -> Any:
    """A dit distribution over the symbols (x1, ..., y) of p that have positive probability."""
    require("a distribution of dit", "dit", "dit")
    import dit

    # Symbols are single characters, because some measures of dit fail on other outcomes.
    cells = [tuple(int(i) for i in index) for index in np.argwhere(p > 0.0)]
    outcomes = ["".join(chr(ord("0") + i) for i in cell) for cell in cells]
    return dit.Distribution(outcomes, [float(p[cell]) for cell in cells])


def _classes() -> dict[str, Any]:
    require("a measure of dit", "dit", "dit")
    import dit.pid

    classes = {
        name.removeprefix(_PREFIX).lower(): getattr(dit.pid, name)
        for name in dir(dit.pid)
        if name.startswith(_PREFIX)
    }
    return {name: kind for name, kind in classes.items() if name not in _REPLACED}
