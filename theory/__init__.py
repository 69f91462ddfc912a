"""What is claimed: statements that are checked, a prover, certificates. Never loads torch.

Example:
    >>> import theory
    >>> theory.images_needed(0.02, 0.05)
    149
    >>> theory.prove("I(X;Z) <= I(X;Y)", given="X->Y->Z").proved
    True
"""

from theory import statements as statements
from theory.certificate import Certificate as Certificate
from theory.certificate import certify_mean as certify_mean
from theory.sample_size import images_needed as images_needed
from theory.sample_size import zero_failure_bound as zero_failure_bound
from theory.shannon import Proof as Proof
from theory.shannon import prove as prove
from theory.statement import Statement as Statement
from theory.statement import Verdict as Verdict
from theory.verifier import verify_statement as verify_statement

__all__ = [
    "Certificate",
    "Proof",
    "Statement",
    "Verdict",
    "certify_mean",
    "images_needed",
    "prove",
    "statements",
    "verify_statement",
    "zero_failure_bound",
]
