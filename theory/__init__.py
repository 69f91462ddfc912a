"""What is claimed: certificates and the sample sizes they need. Never loads torch.

Example:
    >>> import theory
    >>> theory.images_needed(0.02, 0.05)
    149
"""

from theory.certificate import Certificate as Certificate
from theory.certificate import certify_mean as certify_mean
from theory.sample_size import images_needed as images_needed
from theory.sample_size import zero_failure_bound as zero_failure_bound

__all__ = ["Certificate", "certify_mean", "images_needed", "zero_failure_bound"]
