"""What is claimed: statements that are checked, a prover, certificates. Never loads torch.

Example:
    >>> import theory
    >>> theory.images_needed(0.02, 0.05)
    149
    >>> theory.prove("I(X;Z) <= I(X;Y)", given="X->Y->Z").proved
    True
"""

from estimators import __version__ as __version__
from estimators.extras import require

require("theory", "sympy", "theory")

import theory.statements as statements
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

__all__ = [
    "Bound",
    "Certificate",
    "Proof",
    "Selection",
    "Statement",
    "Verdict",
    "certification_power",
    "certify_mean",
    "images_for_power",
    "images_needed",
    "label_free_drop",
    "learn_then_test",
    "prove",
    "reachable_epsilon",
    "statements",
    "verify_statement",
    "zero_failure_bound",
]
