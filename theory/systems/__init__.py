"""Synthetic systems that know their truth, as plain numpy arrays.

Example:
    >>> from theory import systems
    >>> systems.toy_vlm().truth.unsafe_answer
    'unsure'
"""

from theory.systems.forward import ToyRun as ToyRun
from theory.systems.forward import run_toy as run_toy
from theory.systems.toy_vlm import ToyTruth as ToyTruth
from theory.systems.toy_vlm import ToyVLM as ToyVLM
from theory.systems.toy_vlm import toy_vlm as toy_vlm
