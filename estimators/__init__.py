"""Estimators of information and geometry: arrays in, `Estimate` out. Needs numpy and scipy only.

Names are imported when they are first used, so that `import estimators` is cheap.

Example:
    >>> import estimators
    >>> estimators.clustered_mean([0, 1, 1, 1], ["a", "a", "b", "b"], bounds=(0, 1)).value
    0.75
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    import estimators.discrete as discrete
    import estimators.tasks as tasks
    from estimators.bounded_mean import betting_interval as betting_interval
    from estimators.bounded_mean import betting_p_value as betting_p_value
    from estimators.bounded_mean import betting_upper_bound as betting_upper_bound
    from estimators.cka import CKAAccumulator as CKAAccumulator
    from estimators.cka import linear_cka as linear_cka
    from estimators.clustered import cluster_means as cluster_means
    from estimators.clustered import clustered_mean as clustered_mean
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

#: Names that each module provides.
_EXPORTS = {
    "estimators.bounded_mean": ("betting_interval", "betting_p_value", "betting_upper_bound"),
    "estimators.cka": ("CKAAccumulator", "linear_cka"),
    "estimators.clustered": ("cluster_means", "clustered_mean"),
    "estimators.decomposition.counts": ("pid_from_counts",),
    "estimators.decomposition.dispatch": ("pid",),
    "estimators.decomposition.gaussian": ("pid_from_covariance",),
    "estimators.decomposition.multivariate": ("PIDLattice", "pid_lattice", "unique_informations"),
    "estimators.decomposition.pmf": ("pid_from_pmf", "pid_from_pmf_batch"),
    "estimators.decomposition.result": ("PID",),
    "estimators.decomposition.samples": ("pid_from_samples",),
    "estimators.dimension": ("intrinsic_dimension",),
    "estimators.estimate": ("Estimate",),
    "estimators.geometry": (
        "PairRows",
        "angular_distance",
        "block_influence",
        "cosine_distance",
        "cosine_quantiles",
        "cosine_tail",
        "norm_ratio",
        "relative_update_norm",
    ),
    "estimators.information.dispatch": (
        "conditional_mutual_information",
        "entropy",
        "mutual_information",
    ),
    "estimators.moments": ("CrossMoments", "moments_cka"),
    "estimators.profile": ("Profile",),
    "estimators.quantization": ("quantize",),
    "estimators.spectrum": (
        "SpectrumAccumulator",
        "effective_rank",
        "matrix_entropy",
        "spectral_entropy",
    ),
    "estimators.states": ("profile_states",),
    "estimators.streaming": ("MEASURES", "TAIL_GRID", "MeanAccumulator", "PairAccumulator"),
    "estimators.token_groups": ("last_rows",),
    "estimators.usable": ("usable_information",),
}
#: Module that provides each name.
_HOMES = {name: module for module, names in _EXPORTS.items() for name in names}
_SUBPACKAGES = ("discrete", "tasks")

__all__ = [
    "MEASURES",
    "PID",
    "TAIL_GRID",
    "CKAAccumulator",
    "CrossMoments",
    "Estimate",
    "MeanAccumulator",
    "PIDLattice",
    "PairAccumulator",
    "PairRows",
    "Profile",
    "SpectrumAccumulator",
    "__version__",
    "angular_distance",
    "betting_interval",
    "betting_p_value",
    "betting_upper_bound",
    "block_influence",
    "cluster_means",
    "clustered_mean",
    "conditional_mutual_information",
    "cosine_distance",
    "cosine_quantiles",
    "cosine_tail",
    "discrete",
    "effective_rank",
    "entropy",
    "intrinsic_dimension",
    "last_rows",
    "linear_cka",
    "matrix_entropy",
    "moments_cka",
    "mutual_information",
    "norm_ratio",
    "pid",
    "pid_from_counts",
    "pid_from_covariance",
    "pid_from_pmf",
    "pid_from_pmf_batch",
    "pid_from_samples",
    "pid_lattice",
    "profile_states",
    "quantize",
    "relative_update_norm",
    "spectral_entropy",
    "tasks",
    "unique_informations",
    "usable_information",
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
