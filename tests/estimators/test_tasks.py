"""The 40 tasks: truths by other roads, maps with their inverses, samples that are seeded."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.special import ndtr
from scipy.stats import kstest, multivariate_normal, multivariate_t

from estimators import tasks
from estimators.tasks import maps
from estimators.tasks.sources import AdditiveUniform, Normal, StudentT

# As the package benchmark-mi 0.1.3 prints them.
PUBLISHED = {
    "1v1-normal-0.75": 0.413339,
    "normal_cdf-1v1-normal-0.75": 0.413339,
    "1v1-additive-0.1": 1.709438,
    "1v1-additive-0.75": 0.333333,
    "1v1-bimodal-0.75": 0.413339,
    "wiggly-1v1-normal-0.75": 0.413339,
    "half_cube-1v1-normal-0.75": 0.413339,
    "student-identity-1-1-1": 0.224171,
    "asinh-student-identity-1-1-1": 0.224171,
    "swissroll_x-normal_cdf-1v1-normal-0.75": 0.413339,
    "multinormal-dense-2-2-0.5": 0.293893,
    "multinormal-dense-3-3-0.5": 0.413339,
    "multinormal-dense-5-5-0.5": 0.592812,
    "multinormal-dense-25-25-0.5": 1.292184,
    "multinormal-dense-50-50-0.5": 1.624265,
    "multinormal-sparse-2-2-2-2.0": 1.021651,
    "multinormal-sparse-3-3-2-2.0": 1.021651,
    "multinormal-sparse-5-5-2-2.0": 1.021651,
    "multinormal-sparse-25-25-2-2.0": 1.021651,
    "student-identity-2-2-1": 0.431946,
    "student-identity-2-2-2": 0.193147,
    "student-identity-3-3-2": 0.290922,
    "student-identity-3-3-3": 0.178712,
    "student-identity-5-5-2": 0.448151,
    "student-identity-5-5-3": 0.298544,
    **{
        f"{how}multinormal-sparse-{d}-{d}-2-2.0": 1.021651
        for how in ("normal_cdf-", "half_cube-", "spiral-", "spiral-normal_cdf-")
        for d in (3, 5, 25)
    },
    "asinh-student-identity-2-2-1": 0.431946,
    "asinh-student-identity-3-3-2": 0.290922,
    "asinh-student-identity-5-5-2": 0.448151,
}
SOURCES = sorted({one.source for one in tasks.TASKS}, key=repr)


def pointwise(source, x, y):
    """ln p(x, y) / (p(x) p(y)) per row, from densities that scipy or a sketch of them gives."""
    p, q = source.dims
    if isinstance(source, AdditiveUniform):
        w = source.width
        low, high = np.maximum(y[:, 0] - w, 0.0), np.minimum(y[:, 0] + w, 1.0)
        return -np.log(high - low)  # p(y | x) = 1 / 2w, p(y) = (high - low) / 2w
    if isinstance(source, Normal):
        c = np.array(source.correlation)
        joint, of_x, of_y = (multivariate_normal(cov=m) for m in (c, c[:p, :p], c[p:, p:]))
    else:
        joint, of_x, of_y = (multivariate_t(np.zeros(k), df=source.df) for k in (p + q, p, q))
    return joint.logpdf(np.hstack((x, y))) - of_x.logpdf(x) - of_y.logpdf(y)


def test_table_is_the_public_one():
    rows = tasks.table()
    assert {row["id"]: round(row["mutual_information"], 6) for row in rows} == PUBLISHED
    assert [row["id"] for row in rows] == list(PUBLISHED)
    assert len({row["name"] for row in rows}) == 40
    assert rows[9]["name"] == "Swiss roll 2 × 1"
    assert rows[34]["maps_y"] == ["normal_cdf", "spiral_y"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: f"{type(s).__name__}{s.dims}")
def test_truth_is_the_mean_log_density_ratio_of_what_is_drawn(source):
    x, y = source.draw(40_000, np.random.default_rng(1))
    found = pointwise(source, x, y)
    error = found.std() / np.sqrt(found.size)
    assert abs(found.mean() - source.mutual_information) < 4.0 * error


@pytest.mark.parametrize("width", [0.1, 0.5, 0.75, 2.0])
def test_additive_uniform_by_integration(width):
    def integrand(noise, x):
        low, high = max(x + noise - width, 0.0), min(x + noise + width, 1.0)
        return -np.log(high - low) / (2.0 * width)

    found, _ = dblquad(integrand, 0.0, 1.0, -width, width, epsabs=1e-7)
    assert found == pytest.approx(AdditiveUniform(width).mutual_information, abs=1e-5)


def test_student_t_against_the_bivariate_cauchy():
    assert StudentT(1, 1, 1).mutual_information == pytest.approx(np.log(8 * np.pi) - 3, abs=1e-12)
    assert StudentT(5, 5, 10**7).mutual_information == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("one", tasks.TASKS, ids=lambda t: t.id)
def test_samples_are_seeded_and_shaped(one):
    x, y = one.sample(50, seed=3)
    again = one.sample(50, seed=3)
    other = one.sample(50, seed=4)
    assert x.shape == (50, one.dim_x)
    assert y.shape == (50, one.dim_y)
    assert np.isfinite(x).all()
    assert np.isfinite(y).all()
    assert (x == again[0]).all()
    assert (y == again[1]).all()
    assert (x != other[0]).any()
    assert (y != other[1]).any()


BENT = [
    one
    for one in tasks.TASKS
    if one.id.startswith(("normal_cdf-", "half_cube-", "asinh-", "wiggly-", "spiral-"))
]


@pytest.mark.parametrize("one", BENT, ids=lambda t: t.id)
def test_a_bent_task_is_its_base_with_the_map_of_its_name(one):
    how, _, base = one.id.partition("-")
    x, y = tasks.task(base).sample(40, seed=5)
    both = None if how in ("spiral", "wiggly") else getattr(maps, how)
    bent_x, bent_y = one.sample(40, seed=5)
    assert (bent_x == (both or getattr(maps, f"{how}_x"))(x)).all()
    assert (bent_y == (both or getattr(maps, f"{how}_y"))(y)).all()


def rows(d, scale=1.5):
    return scale * np.random.default_rng(d).standard_normal((2_000, d))


def unspiral(z, plane):
    """Turn back: the norm, and with it the angle, is what it was."""
    i, j = plane
    angle = (z**2).sum(axis=1) / z.shape[1]
    out = z.copy()
    out[:, i] = np.cos(angle) * z[:, i] + np.sin(angle) * z[:, j]
    out[:, j] = -np.sin(angle) * z[:, i] + np.cos(angle) * z[:, j]
    return out


@pytest.mark.parametrize(
    ("there", "back", "x"),
    [
        (maps.half_cube, lambda z: np.sign(z) * np.abs(z) ** (2 / 3), rows(3)),
        (maps.asinh, np.sinh, rows(3)),
        (maps.spiral_x, lambda z: unspiral(z, (0, 1)), rows(3)),
        (maps.spiral_y, lambda z: unspiral(z, (1, 2)), rows(25)),
        (
            maps.swiss_roll,
            lambda z: (21 * np.linalg.norm(z, axis=1, keepdims=True) / 1.5 / np.pi - 1) / 2,
            np.random.default_rng(0).random((2_000, 1)),
        ),
        (
            maps.bimodal_x,
            lambda z: 0.3 * ndtr(z) + 0.7 * ndtr(z - 5),
            np.random.default_rng(1).random((2_000, 1)),
        ),
        (
            maps.bimodal_y,
            lambda z: 0.5 * ndtr(z + 1) + 0.5 * ndtr(z - 3),
            np.random.default_rng(2).random((2_000, 1)),
        ),
    ],
)
def test_maps_can_be_undone(there, back, x):
    assert np.abs(back(there(x)) - x).max() < 1e-9


@pytest.mark.parametrize("wave", [maps.wiggly_x, maps.wiggly_y])
def test_wiggles_only_rise(wave):
    assert (np.diff(wave(np.linspace(-30, 30, 200_001)[:, None])[:, 0]) > 0).all()


def test_marginals_are_what_the_names_say():
    x, y = tasks.task("normal_cdf-1v1-normal-0.75").sample(5_000, seed=0)
    assert min(kstest(x[:, 0], "uniform").pvalue, kstest(y[:, 0], "uniform").pvalue) > 1e-3
    x, _ = tasks.task("student-identity-3-3-3").sample(5_000, seed=0)
    assert kstest(x[:, 1], "t", (3,)).pvalue > 1e-3
    x, y = tasks.task("multinormal-sparse-5-5-2-2.0").sample(50_000, seed=0)
    found = np.corrcoef(np.hstack((x, y)).T)
    wanted = np.array(Normal.pairs(5, 5).correlation)
    assert np.abs(found - wanted).max() < 0.02


def test_refusals():
    one = tasks.TASKS[0]
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        one.sample(0, seed=0)
    with pytest.raises(ValueError, match="non-negative"):
        one.sample(1, seed=-1)
    with pytest.raises(ValueError, match=r"no task 'nope'; there are 1v1-normal-0\.75, "):
        tasks.task("nope")
