"""Prover of Shannon-type inequalities, with certificates in exact arithmetic.

Example:
    >>> from theory.shannon import prove
    >>> prove("I(X;Z) <= I(X;Y)", given="X -> Y -> Z").proved
    True
"""

from theory.shannon.certificate import ShannonCertificate as ShannonCertificate
from theory.shannon.certificate import Step as Step
from theory.shannon.certificate import Witness as Witness
from theory.shannon.constraints import parse_constraints as parse_constraints
from theory.shannon.elemental import elementals as elementals
from theory.shannon.expression import ExpressionError as ExpressionError
from theory.shannon.expression import Relation as Relation
from theory.shannon.expression import parse_relation as parse_relation
from theory.shannon.prover import MAX_VARIABLES as MAX_VARIABLES
from theory.shannon.prover import Proof as Proof
from theory.shannon.prover import prove as prove

__all__ = [
    "MAX_VARIABLES",
    "ExpressionError",
    "Proof",
    "Relation",
    "ShannonCertificate",
    "Step",
    "Witness",
    "elementals",
    "parse_constraints",
    "parse_relation",
    "prove",
]
