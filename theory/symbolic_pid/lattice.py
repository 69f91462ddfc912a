"""MMI and I_min for symbolic pmfs, computed by dit."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp

from estimators.extras import require
from theory.symbolic_pid.expressions import (
    SymbolicPid,
    SymbolicPmf,
    from_redundancy,
    parameters_of,
)


def lattice_pid(p: SymbolicPmf, *, measure: str, parameters: Any = None) -> SymbolicPid:
    """Atoms of a symbolic pmf by MMI (`min I(Y; X_i)`) or I_min (Williams & Beer).

    Args:
        p: pmf from `symbolic_pmf`.
        measure: "mmi" or "imin".
        parameters: order of the free symbols; sorted by name if None.

    Raises:
        ValueError: unknown measure.

    Source:
        dit (James, Ellison & Crutchfield 2018), `dit.symbolic`; Williams & Beer 2010, arXiv
        1004.2515, equation 5; Barrett 2015, arXiv 1411.2832, equation 26.

    Example:
        >>> from theory.symbolic_pid import symbolic_pmf
        >>> a = sp.Symbol("a", positive=True)
        >>> p = symbolic_pmf({(0, 0, 0): a, (1, 1, 1): 1 - a})
        >>> sp.simplify(lattice_pid(p, measure="mmi").unique_1.rewrite(sp.log))
        0
    """
    require("a symbolic lattice", "dit", "dit")
    from dit.pid import PID_MMI, PID_WB
    from dit.symbolic import symbolic_distribution

    classes = {"mmi": PID_MMI, "imin": PID_WB}
    if measure not in classes:
        raise ValueError(f"unknown measure '{measure}'; choose from {', '.join(classes)}")
    cells = [(where, cell) for where, cell in np.ndenumerate(p) if cell != 0]
    outcomes = [tuple(map(str, where)) for where, _ in cells]
    distribution = symbolic_distribution(outcomes, [cell for _, cell in cells])
    lattice = classes[measure](distribution, [[0], [1]], [2])
    bits = sp.sympify(lattice.get_pi(((0,), (1,))))
    return from_redundancy(
        p, bits * sp.log(2), measure=measure, parameters=parameters_of(p, parameters)
    )
