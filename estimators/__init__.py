"""What is measured: plain arrays in, `Estimate` out. Needs numpy and scipy, nothing else.

Example:
    >>> import estimators
    >>> estimators.clustered_mean([0, 1, 1, 1], ["a", "a", "b", "b"], bounds=(0, 1)).value
    0.75
"""

from estimators.bounded_mean import betting_interval as betting_interval
from estimators.bounded_mean import betting_p_value as betting_p_value
from estimators.bounded_mean import betting_upper_bound as betting_upper_bound
from estimators.clustered import cluster_means as cluster_means
from estimators.clustered import clustered_mean as clustered_mean
from estimators.estimate import Estimate as Estimate
from estimators.geometry import PairRows as PairRows
from estimators.geometry import angular_distance as angular_distance
from estimators.geometry import cosine_distance as cosine_distance
from estimators.geometry import norm_ratio as norm_ratio
from estimators.geometry import relative_update_norm as relative_update_norm
from estimators.profile import Profile as Profile
from estimators.states import profile_states as profile_states
from estimators.streaming import MEASURES as MEASURES
from estimators.streaming import TAIL_GRID as TAIL_GRID
from estimators.streaming import MeanAccumulator as MeanAccumulator
from estimators.streaming import PairAccumulator as PairAccumulator

__all__ = [
    "MEASURES",
    "TAIL_GRID",
    "Estimate",
    "MeanAccumulator",
    "PairAccumulator",
    "PairRows",
    "Profile",
    "angular_distance",
    "betting_interval",
    "betting_p_value",
    "betting_upper_bound",
    "cluster_means",
    "clustered_mean",
    "cosine_distance",
    "norm_ratio",
    "profile_states",
    "relative_update_norm",
]
