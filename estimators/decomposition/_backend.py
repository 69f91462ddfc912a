"""Array operations of numpy and torch under common names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from estimators.extras import require

Array = Any  # numpy.ndarray or torch.Tensor, float64

#: Diagonal shift of a scaled matrix before its Cholesky factorisation, and its growth factor
#: while rounding makes the matrix indefinite. Beyond the last shift the solution is NaN.
FIRST_SHIFT = 1e-13
SHIFT_GROWTH = 100.0
LAST_SHIFT = 1.0


@dataclass(frozen=True)
class Backend:
    """Functions with equal names in both are in `xp`; the other fields differ between them.

    Attributes:
        xp: the module numpy or torch.
        array: float64 array of the backend from a numpy array.
        numpy: numpy array from an array of the backend.
        permute: function that reorders axes.
        cholesky: function from matrices (b, n, n) with unit diagonal to a solver for right-hand
            sides (b, n).
    """

    xp: ModuleType
    array: Callable[[Array], Array]
    numpy: Callable[[Array], Array]
    permute: Callable[[Array, tuple[int, ...]], Array]
    cholesky: Callable[[Array], Callable[[Array], Array]]


def numpy_backend() -> Backend:
    """Numpy arrays; LAPACK factorises one matrix at a time."""
    return Backend(
        xp=np,
        array=lambda x: np.asarray(x, dtype=np.float64),
        numpy=lambda x: x,
        permute=np.transpose,
        cholesky=_numpy_cholesky,
    )


def torch_backend(device: str) -> Backend:
    """Torch tensors on `device`, float64, without gradients."""
    require("PID on a device", "torch", "neural")
    import torch

    return Backend(
        xp=torch,
        array=lambda x: torch.as_tensor(np.asarray(x, dtype=np.float64), device=device),
        numpy=lambda x: x.cpu().numpy(),
        permute=torch.permute,
        cholesky=_torch_cholesky,
    )


def _numpy_cholesky(matrices: Array) -> Callable[[Array], Array]:
    def factor(matrix: Array) -> Array:
        shift, diagonal = FIRST_SHIFT, np.arange(len(matrix))
        while True:
            shifted = matrix.copy()
            shifted[diagonal, diagonal] += shift
            try:
                return cho_factor(shifted, overwrite_a=True, check_finite=False)
            except np.linalg.LinAlgError:
                shift *= SHIFT_GROWTH
                if not shift <= LAST_SHIFT:
                    return np.full_like(matrix, np.nan), False

    factors = [factor(matrix) for matrix in matrices]
    return lambda rhs: np.stack(
        [cho_solve(f, r, check_finite=False) for f, r in zip(factors, rhs, strict=True)]
    )


def _torch_cholesky(matrices: Array) -> Callable[[Array], Array]:
    import torch

    shift = torch.full(matrices.shape[:1], FIRST_SHIFT, dtype=matrices.dtype).to(matrices)
    identity = torch.eye(matrices.shape[-1]).to(matrices)
    while True:
        factors, info = torch.linalg.cholesky_ex(matrices + shift[:, None, None] * identity)
        failed = info != 0
        shift = torch.where(failed, shift * SHIFT_GROWTH, shift)
        if not bool((failed & (shift <= LAST_SHIFT)).any()):
            break
    factors = torch.where(failed[:, None, None], torch.nan, factors)

    def solve(rhs: Array) -> Array:
        return torch.cholesky_solve(rhs[..., None], factors)[..., 0]

    return solve
