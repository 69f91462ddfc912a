"""Measurements of a model on questions that several rules read; `Evidence` makes each once."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
