"""Verified statements, a prover for Shannon-type inequalities, and certificates.

Names are imported on first use, so that `import theory` is fast. The package never loads torch.

Example:
    >>> import theory
    >>> theory.images_needed(0.02, 0.05)
    149
    >>> theory.prove("I(X;Z) <= I(X;Y)", given="X->Y->Z").proved
    True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from estimators.extras import require
from estimators.lazy import LazyNames

if TYPE_CHECKING:
    from estimators import __version__ as __version__
    from theory import certificates as certificates
    from theory import conditions as conditions
    from theory import shannon as shannon
    from theory import statements as statements
    from theory import symbolic_pid as symbolic_pid
    from theory import systems as systems
    from theory.certificates import Certificate as Certificate
    from theory.certificates import Selection as Selection
    from theory.certificates import certification_power as certification_power
    from theory.certificates import certify_drop as certify_drop
    from theory.certificates import certify_groups as certify_groups
    from theory.certificates import certify_mean as certify_mean
    from theory.certificates import certify_quantile as certify_quantile
    from theory.certificates import certify_risks as certify_risks
    from theory.certificates import images_for_power as images_for_power
    from theory.certificates import images_needed as images_needed
    from theory.certificates import label_free_drop as label_free_drop
    from theory.certificates import learn_then_test as learn_then_test
    from theory.certificates import reachable_epsilon as reachable_epsilon
    from theory.certificates import what_it_takes as what_it_takes
    from theory.certificates import zero_failure_bound as zero_failure_bound
    from theory.conditions import Bound as Bound
    from theory.shannon import Proof as Proof
    from theory.shannon import prove as prove
    from theory.statement import Statement as Statement
    from theory.statement import Verdict as Verdict
    from theory.verifier import verify_statement as verify_statement

require("theory", "sympy", "theory")

_NAMES = LazyNames(__name__, __file__)
__all__ = sorted(_NAMES.sources)


def __getattr__(name: str) -> Any:
    globals()[name] = value = _NAMES.get(name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
