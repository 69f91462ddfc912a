"""The BROJA solver: certificate, exactness, batches, and its linear algebra."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.optimize import minimize_scalar

from estimators.decomposition._backend import numpy_backend, torch_backend
from estimators.decomposition._newton import Direction, NewtonSystem
from estimators.decomposition.broja import BrojaSolution, solve_broja
from estimators.strategies import joint_pmfs

ROUNDING = 1e-13


def random_pmfs(k: int, count: int, seed: int = 0, alpha: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(k**3, alpha), count).reshape(-1, k, k, k)


def log(x: np.ndarray) -> np.ndarray:
    return np.log(np.where(x > 0.0, x, 1.0))


def check(p: np.ndarray, solution: BrojaSolution) -> None:
    """Both points are feasible, and their values, computed here anew, are the certificate."""
    q, first, second = solution.q[0], solution.dual_1[0], solution.dual_2[0]
    assert q.min() >= 0.0
    np.testing.assert_allclose(q.sum(1), p.sum(1), atol=1e-15)
    np.testing.assert_allclose(q.sum(0), p.sum(0), atol=1e-15)
    assert np.exp(first[:, None] + second[None]).sum(2).max() <= 1.0 + ROUNDING
    s = p.sum((0, 1))
    h = -(s * log(s)).sum()
    primal = h + (q * (log(q) - log(q.sum(2))[:, :, None])).sum()
    dual = h
    for marginal, value in ((p.sum(1), first), (p.sum(0), second)):
        dual += (marginal * np.where(marginal > 0.0, value, 0.0)).sum()
    assert dual <= primal + ROUNDING
    assert solution.lower[0] >= dual - ROUNDING
    assert solution.upper[0] <= primal + ROUNDING
    assert solution.lower[0] <= solution.upper[0]
    assert solution.converged[0]
    assert primal - dual <= 1.1e-11


@given(joint_pmfs(3))
def test_certificate_on_any_pmf(p):
    check(p, solve_broja(p))


@pytest.mark.parametrize("alpha", [1.0, 0.1, 0.02])
def test_certificate_on_random_pmfs(alpha):
    for p in random_pmfs(4, 25, alpha=alpha):
        check(p, solve_broja(p))


def equal_channels(rng: np.random.Generator) -> np.ndarray:
    """Both sources the same channel of the target: the optimum lies on the boundary."""
    channel = rng.dirichlet(np.ones(3), 4)
    return np.einsum("s,sx,sy->xys", rng.dirichlet(np.ones(4)), channel, channel)


def deterministic(rng: np.random.Generator) -> np.ndarray:
    cause, effect = rng.dirichlet(np.ones(12)).reshape(3, 4, 1), rng.integers(0, 5, (3, 4))
    return cause * (effect[:, :, None] == np.arange(5))


def nearly_deterministic(rng: np.random.Generator) -> np.ndarray:
    p = deterministic(rng) + 10.0 ** -rng.integers(3, 12)
    return p / p.sum()


def wide_range(rng: np.random.Generator) -> np.ndarray:
    p = 10.0 ** rng.uniform(-14.0, 0.0, (3, 2, 4))
    return p / p.sum()


def counts(rng: np.random.Generator) -> np.ndarray:
    n = int(rng.integers(1, 200))
    return rng.multinomial(n, rng.dirichlet(np.ones(210))).reshape(5, 6, 7) / n


def binary_target(rng: np.random.Generator) -> np.ndarray:
    return rng.dirichlet(np.ones(9 * 11 * 2)).reshape(9, 11, 2)


@pytest.mark.parametrize(
    "draw",
    [equal_channels, deterministic, nearly_deterministic, wide_range, counts, binary_target],
)
def test_certificate_on_hard_pmfs(draw):
    for seed in range(10):
        p = draw(np.random.default_rng(seed))
        check(p, solve_broja(p))


def plain_union(p: np.ndarray) -> float:
    """I_union of a 2 x 2 x 2 pmf: one number t_s per symbol of Y moves q, inside a box."""
    s = p.sum((0, 1))
    start = np.einsum("xs,ys->xys", p.sum(1), p.sum(0)) / s
    turn = np.array([[1.0, -1.0], [-1.0, 1.0]])[:, :, None]

    def value(t: np.ndarray) -> float:
        q = np.maximum(start + turn * t, 0.0)
        return float((q * (log(q) - log(q.sum(2))[:, :, None])).sum())

    box = [
        (-min(start[0, 0, i], start[1, 1, i]), min(start[0, 1, i], start[1, 0, i])) for i in (0, 1)
    ]

    def least(function: Callable[[float], float], bounds: tuple[float, float]) -> float:
        options = {"xatol": 1e-11}
        return float(minimize_scalar(function, bounds=bounds, options=options).fun)

    # Convex, so the partial minimum is convex too: one search inside the other.
    best = least(lambda a: least(lambda b: value(np.array([a, b])), box[1]), box[0])
    return float(-(s * log(s)).sum() + best)


def test_fast_against_plain():
    for p in random_pmfs(2, 40, seed=3):
        solution = solve_broja(p)
        plain = plain_union(p)
        assert plain >= solution.lower[0] - 1e-12
        assert plain == pytest.approx(solution.union[0], abs=1e-8)


@settings(max_examples=20)
@given(joint_pmfs([3, 2, 4]))
def test_torch_and_numpy_agree(p):
    one, other = solve_broja(p), solve_broja(p, device="cpu")
    np.testing.assert_allclose(other.atoms, one.atoms, atol=2e-11)


def test_a_batch_is_its_members():
    p = np.concatenate([random_pmfs(3, 8), random_pmfs(3, 8, alpha=0.05)])
    together = solve_broja(p)
    assert together.converged.all()
    for i, member in enumerate(p):
        alone = solve_broja(member)
        np.testing.assert_allclose(together.atoms[i], alone.atoms[0], atol=2e-11)
        np.testing.assert_allclose(together.q[i].sum(1), member.sum(1), atol=1e-15)


def test_chunks_are_joined_in_order(monkeypatch):
    p = random_pmfs(3, 7)
    whole = solve_broja(p)
    monkeypatch.setattr("estimators.decomposition.broja._CHUNK_BYTES", 1)
    np.testing.assert_allclose(solve_broja(p).atoms, whole.atoms, atol=2e-11)


@pytest.mark.gpu
def test_gpu_and_cpu_agree():
    p = random_pmfs(4, 64)
    gpu, cpu = solve_broja(p, device="cuda"), solve_broja(p)
    assert gpu.converged.all()
    np.testing.assert_allclose(gpu.atoms, cpu.atoms, atol=2e-11)


def test_few_steps_are_enough():
    """Newton's method: an error in the Hessian shows as many more steps, or none that help."""
    solution = solve_broja(random_pmfs(5, 50))
    assert solution.converged.all()
    assert solution.iterations.max() <= 20


def test_no_step_allowed_is_said():
    solution = solve_broja(random_pmfs(4, 1), max_iterations=0)
    assert not solution.converged[0]
    assert solution.gap[0] > 1e-3
    assert solution.iterations[0] == 0


@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_failed_factorisation_keeps_the_proofs(device, monkeypatch):
    monkeypatch.setattr("estimators.decomposition._backend.FIRST_SHIFT", np.nan)
    p = random_pmfs(4, 1)
    solution = solve_broja(p, device=device)
    monkeypatch.undo()
    exact = solve_broja(p)
    assert not solution.converged[0]
    assert solution.lower[0] <= exact.lower[0]
    assert exact.upper[0] <= solution.upper[0] < np.inf


def newton_case(ops, b: int = 3):
    rng = np.random.default_rng(5)
    first, second = rng.random((b, 3, 4)) < 0.8, rng.random((b, 2, 4)) < 0.8
    first[:, 0], second[:, 0] = True, True
    cells = first[:, :, None] & second[:, None]
    a = np.where(cells, rng.random((b, 3, 2, 4)), 0.0)
    pair = cells.any(3)
    w, z = np.where(pair, rng.random((b, 3, 2)), 0.0), rng.random((b, 3, 2)) + 0.1
    rhs = [
        rng.normal(size=(b, 3, 4)) * first,
        rng.normal(size=(b, 2, 4)) * second,
        rng.normal(size=(b, 3, 2)) * pair,
        rng.normal(size=(b, 3, 2)) * pair,
    ]
    # Solvable where the gradient has no part along the gauge.
    excess = (rhs[0].sum(1) - rhs[1].sum(1)) / second.sum(1)
    rhs[1] = (rhs[1] + excess[:, None]) * second
    masks = [ops.xp.asarray(m) for m in (first, second, pair)]
    system = NewtonSystem(ops, ops.array(a), ops.array(w), ops.array(z), *masks)
    return system, Direction(*(ops.array(r) for r in rhs)), (a, w, z, first, second, pair)


@pytest.mark.parametrize("ops", [numpy_backend(), torch_backend("cpu")], ids=["numpy", "torch"])
def test_newton_step_solves_the_system(ops):
    system, rhs, (a, w, z, *_) = newton_case(ops)
    step = [ops.numpy(part) for part in system.solve(rhs)]
    # The left-hand side, written out symbol by symbol.
    left = [np.zeros_like(part) for part in (step[0], step[1], step[2], step[3])]
    for b, x, y, s in np.ndindex(a.shape):
        du = step[0][b, x, s] + step[1][b, y, s]
        flow = a[b, x, y, s] * (w[b, x, y] * du + step[2][b, x, y])
        left[0][b, x, s] += flow
        left[1][b, y, s] += flow
        left[2][b, x, y] += a[b, x, y, s] * du
    left[2] += step[3]
    left[3] = z * step[2] + w * step[3]
    for found, wanted in zip(left, rhs, strict=True):
        np.testing.assert_allclose(found, ops.numpy(wanted), atol=1e-9)


def test_one_solve_is_nearly_exact_without_refinement():
    """Refinement would hide a small error of the factored matrix; here it may not."""
    system, rhs, _ = newton_case(numpy_backend())
    step = system._solve_once(rhs)
    for found, wanted in zip(system.apply(step), rhs, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_newton_step_does_not_move_along_the_gauge():
    system, rhs, (a, w, *_, first, second, _) = newton_case(numpy_backend())
    assert np.abs(system._blocks).max() < 1e6, "a block is inverted along the gauge"
    step = system.solve(rhs)
    q = w[..., None] * a
    drift = (q.sum(2) * step.first * first).sum(1) - (q.sum(1) * step.second * second).sum(1)
    np.testing.assert_allclose(drift, 0.0, atol=1e-9)
