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

from importlib import import_module
from typing import TYPE_CHECKING, Any

from estimators.extras import require

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
    from theory.certificates import certify_mean as certify_mean
    from theory.certificates import images_for_power as images_for_power
    from theory.certificates import images_needed as images_needed
    from theory.certificates import label_free_drop as label_free_drop
    from theory.certificates import learn_then_test as learn_then_test
    from theory.certificates import reachable_epsilon as reachable_epsilon
    from theory.certificates import zero_failure_bound as zero_failure_bound
    from theory.conditions import Bound as Bound
    from theory.shannon import Proof as Proof
    from theory.shannon import prove as prove
    from theory.statement import Statement as Statement
    from theory.statement import Verdict as Verdict
    from theory.verifier import verify_statement as verify_statement

require("theory", "sympy", "theory")

_SUBPACKAGES = (
    "certificates",
    "conditions",
    "shannon",
    "statements",
    "symbolic_pid",
    "systems",
)

#: Module that defines each exported name.
_HOMES = {
    "__version__": "estimators",
    "Certificate": "theory.certificates",
    "Selection": "theory.certificates",
    "certification_power": "theory.certificates",
    "certify_mean": "theory.certificates",
    "images_for_power": "theory.certificates",
    "images_needed": "theory.certificates",
    "label_free_drop": "theory.certificates",
    "learn_then_test": "theory.certificates",
    "reachable_epsilon": "theory.certificates",
    "zero_failure_bound": "theory.certificates",
    "Bound": "theory.conditions",
    "Proof": "theory.shannon",
    "prove": "theory.shannon",
    "Statement": "theory.statement",
    "Verdict": "theory.statement",
    "verify_statement": "theory.verifier",
}

__all__ = [
    "Bound",
    "Certificate",
    "Proof",
    "Selection",
    "Statement",
    "Verdict",
    "__version__",
    "certificates",
    "certification_power",
    "certify_mean",
    "conditions",
    "images_for_power",
    "images_needed",
    "label_free_drop",
    "learn_then_test",
    "prove",
    "reachable_epsilon",
    "shannon",
    "statements",
    "symbolic_pid",
    "systems",
    "verify_statement",
    "zero_failure_bound",
]


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
