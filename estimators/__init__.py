"""Estimators of information and geometry: arrays in, `Estimate` out. Needs numpy and scipy only.

Names are imported when they are first used, so that `import estimators` is cheap.

Example:
    >>> import estimators
    >>> estimators.clustered_mean([0, 1, 1, 1], ["a", "a", "b", "b"], bounds=(0, 1)).value
    0.75
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

from estimators.lazy import LazyNames

if TYPE_CHECKING:
    from estimators import discrete as discrete
    from estimators import tasks as tasks
    from estimators.bounded_mean import betting_interval as betting_interval
    from estimators.bounded_mean import betting_p_value as betting_p_value
    from estimators.bounded_mean import betting_upper_bound as betting_upper_bound
    from estimators.cka import CKAAccumulator as CKAAccumulator
    from estimators.cka import linear_cka as linear_cka
    from estimators.clustered import cluster_means as cluster_means
    from estimators.clustered import clustered_mean as clustered_mean
    from estimators.clustered import clustered_ratio as clustered_ratio
    from estimators.decomposition.counts import pid_from_counts as pid_from_counts
    from estimators.decomposition.dispatch import pid as pid
    from estimators.decomposition.gaussian import pid_from_covariance as pid_from_covariance
    from estimators.decomposition.multivariate import PIDLattice as PIDLattice
    from estimators.decomposition.multivariate import pid_lattice as pid_lattice
    from estimators.decomposition.multivariate import unique_informations as unique_informations
    from estimators.decomposition.pmf import pid_from_pmf as pid_from_pmf
    from estimators.decomposition.pmf import pid_from_pmf_batch as pid_from_pmf_batch
    from estimators.decomposition.result import PID as PID
    from estimators.decomposition.samples import pid_from_samples as pid_from_samples
    from estimators.dimension import intrinsic_dimension as intrinsic_dimension
    from estimators.estimate import Estimate as Estimate
    from estimators.frames import to_pandas as to_pandas
    from estimators.geometry import PairRows as PairRows
    from estimators.geometry import angular_distance as angular_distance
    from estimators.geometry import block_influence as block_influence
    from estimators.geometry import cosine_distance as cosine_distance
    from estimators.geometry import cosine_quantiles as cosine_quantiles
    from estimators.geometry import cosine_tail as cosine_tail
    from estimators.geometry import norm_ratio as norm_ratio
    from estimators.geometry import relative_update_norm as relative_update_norm
    from estimators.information.dispatch import (
        conditional_mutual_information as conditional_mutual_information,
    )
    from estimators.information.dispatch import entropy as entropy
    from estimators.information.dispatch import mutual_information as mutual_information
    from estimators.moments import CrossMoments as CrossMoments
    from estimators.moments import moments_cka as moments_cka
    from estimators.profile import Profile as Profile
    from estimators.quantization import quantize as quantize
    from estimators.spectrum import SpectrumAccumulator as SpectrumAccumulator
    from estimators.spectrum import effective_rank as effective_rank
    from estimators.spectrum import matrix_entropy as matrix_entropy
    from estimators.spectrum import spectral_entropy as spectral_entropy
    from estimators.states import profile_states as profile_states
    from estimators.streaming import MEASURES as MEASURES
    from estimators.streaming import TAIL_GRID as TAIL_GRID
    from estimators.streaming import MeanAccumulator as MeanAccumulator
    from estimators.streaming import PairAccumulator as PairAccumulator
    from estimators.token_groups import last_rows as last_rows
    from estimators.usable import usable_information as usable_information

_NAMES = LazyNames(__name__, __file__)
__all__ = sorted({"__version__", *_NAMES.sources})


def __getattr__(name: str) -> Any:
    globals()[name] = value = _NAMES.get(name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
