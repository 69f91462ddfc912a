"""Measurements of a model on questions, shared by rules; `Evidence` runs each once."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
