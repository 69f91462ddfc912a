"""Discrete information measures: of a known pmf (`*_pmf`), of counts, and from samples.

One function per measure: `entropy_pmf(p)` is exact, `entropy(x)` estimates from samples of
categories and returns an `Estimate`. `estimators` has the same functions for continuous samples.
"""

from estimators.discrete.corrections import entropy_counts as entropy_counts
from estimators.discrete.exact import co_information_pmf as co_information_pmf
from estimators.discrete.exact import (
    conditional_mutual_information_pmf as conditional_mutual_information_pmf,
)
from estimators.discrete.exact import dual_total_correlation_pmf as dual_total_correlation_pmf
from estimators.discrete.exact import entropy_pmf as entropy_pmf
from estimators.discrete.exact import mutual_information_pmf as mutual_information_pmf
from estimators.discrete.exact import total_correlation_pmf as total_correlation_pmf
from estimators.discrete.invariants import ShannonInvariants as ShannonInvariants
from estimators.discrete.invariants import shannon_invariants as shannon_invariants
from estimators.discrete.invariants import shannon_invariants_pmf as shannon_invariants_pmf
from estimators.discrete.multivariate import co_information as co_information
from estimators.discrete.multivariate import dual_total_correlation as dual_total_correlation
from estimators.discrete.multivariate import total_correlation as total_correlation
from estimators.discrete.samples import (
    conditional_mutual_information as conditional_mutual_information,
)
from estimators.discrete.samples import entropy as entropy
from estimators.discrete.samples import mutual_information as mutual_information

__all__ = [
    "ShannonInvariants",
    "co_information",
    "co_information_pmf",
    "conditional_mutual_information",
    "conditional_mutual_information_pmf",
    "dual_total_correlation",
    "dual_total_correlation_pmf",
    "entropy",
    "entropy_counts",
    "entropy_pmf",
    "mutual_information",
    "mutual_information_pmf",
    "shannon_invariants",
    "shannon_invariants_pmf",
    "total_correlation",
    "total_correlation_pmf",
]
