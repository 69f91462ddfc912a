"""Chooses a closed form for a symbolic PID."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from theory.symbolic_pid.broja import NotOrderedError, broja_binary, broja_ordered
from theory.symbolic_pid.expressions import MEASURES, SymbolicPid, SymbolicPmf
from theory.symbolic_pid.lattice import lattice_pid


def symbolic_pid(
    p: SymbolicPmf, *, measure: str = "broja", channel: Any = None, parameters: Any = None
) -> SymbolicPid:
    """Atoms of a symbolic pmf in closed form, in nats.

    "mmi" and "imin" are available for every pmf. "broja" is available if one source is a garbling
    of the other (by p(x2 | x1), p(x1 | x2), or the given `channel` from the first source to the
    second) or if all three variables are binary.

    Args:
        p: pmf from `symbolic_pmf`.
        measure: "broja", "imin" or "mmi".
        channel: as in `broja_ordered`; only for "broja".
        parameters: order of the free symbols; sorted by name if None.

    Raises:
        ValueError: unknown measure, or no closed form of BROJA is known for the pmf.

    Source:
        `broja_ordered`, `broja_binary`, `lattice_pid`.

    Example:
        >>> import sympy as sp
        >>> from theory.symbolic_pid import symbolic_pmf
        >>> a, b = sp.symbols("a b", positive=True)
        >>> conjunction = {
        ...     (0, 0, 0): (1 - a) * (1 - b), (0, 1, 0): (1 - a) * b, (1, 0, 0): a * (1 - b),
        ...     (1, 1, 1): a * b,
        ... }
        >>> atoms = symbolic_pid(symbolic_pmf(conjunction)).lambdify()(0.5, 0.5)
        >>> (atoms / float(sp.log(2))).round(4).tolist()
        [0.3113, 0.0, 0.0, 0.5]
    """
    if measure not in MEASURES:
        raise ValueError(f"unknown measure '{measure}'; choose from {', '.join(MEASURES)}")
    if measure != "broja":
        if channel is not None:
            raise ValueError(f"a channel applies to broja only, not to {measure}")
        return lattice_pid(p, measure=measure, parameters=parameters)
    if channel is not None:
        return broja_ordered(p, channel=channel, parameters=parameters)
    with contextlib.suppress(NotOrderedError):
        return broja_ordered(p, parameters=parameters)
    with contextlib.suppress(NotOrderedError):
        swapped = broja_ordered(p.transpose(1, 0, 2), parameters=parameters)
        return replace(swapped, unique_1=swapped.unique_2, unique_2=swapped.unique_1)
    if p.shape == (2, 2, 2):
        return broja_binary(p, parameters=parameters)
    raise ValueError(
        f"no closed form of broja is known for shape {p.shape} unless one source is a garbling of "
        "the other; pass channel=..., or use a numerical solver"
    )
