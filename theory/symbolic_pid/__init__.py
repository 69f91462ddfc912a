"""PID in closed form: BROJA in special cases, MMI and I_min for every symbolic pmf.

Example:
    >>> import sympy as sp
    >>> from theory.symbolic_pid import symbolic_pid, symbolic_pmf
    >>> e = sp.Symbol("e", positive=True)
    >>> p = symbolic_pmf({(0, 0, 0): (1 - e) / 2, (0, 1, 0): e / 2, (1, 1, 1): sp.Rational(1, 2)})
    >>> symbolic_pid(p, measure="broja").unique_2
    0
"""

from theory.symbolic_pid.broja import broja_binary as broja_binary
from theory.symbolic_pid.broja import broja_ordered as broja_ordered
from theory.symbolic_pid.choose import symbolic_pid as symbolic_pid
from theory.symbolic_pid.expressions import ATOMS as ATOMS
from theory.symbolic_pid.expressions import MEASURES as MEASURES
from theory.symbolic_pid.expressions import SymbolicPid as SymbolicPid
from theory.symbolic_pid.expressions import symbolic_pmf as symbolic_pmf
from theory.symbolic_pid.expressions import xlogx as xlogx
from theory.symbolic_pid.gaussian import gaussian_pid as gaussian_pid
from theory.symbolic_pid.lattice import lattice_pid as lattice_pid
