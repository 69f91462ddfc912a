"""Synthetic systems with known ground truth, as numpy arrays.

Gates with exact PID atoms, Gaussian systems with closed forms, a toy VLM with planted layers, and
attention heads with given mass on vision and given geometry of values.

Example:
    >>> from theory import systems
    >>> systems.toy_vlm().truth.unsafe_answer, len(systems.GATES)
    ('unsure', 15)
"""

from theory.systems.attention import GEOMETRIES as GEOMETRIES
from theory.systems.attention import AttentionHead as AttentionHead
from theory.systems.attention import attention_head as attention_head
from theory.systems.forward import ToyRun as ToyRun
from theory.systems.forward import run_toy as run_toy
from theory.systems.gates import GATES as GATES
from theory.systems.gates import Gate as Gate
from theory.systems.gates import degraded_triple as degraded_triple
from theory.systems.gates import gate as gate
from theory.systems.gates import random_triple as random_triple
from theory.systems.gaussian import BIJECTIONS as BIJECTIONS
from theory.systems.gaussian import GaussianSystem as GaussianSystem
from theory.systems.gaussian import gaussian_system as gaussian_system
from theory.systems.gaussian import scalar_gaussian as scalar_gaussian
from theory.systems.toy_build import SCHEDULE as SCHEDULE
from theory.systems.toy_build import toy_vlm as toy_vlm
from theory.systems.toy_model import ToyTruth as ToyTruth
from theory.systems.toy_model import ToyVLM as ToyVLM
from theory.systems.toy_weights import KINDS as KINDS
