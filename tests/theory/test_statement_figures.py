"""Figures that statements quote, computed another way."""

from __future__ import annotations

import math

import numpy as np
import pytest

from theory.pmf import entropy
from theory.statements import p_ia_distance_fano as p_ia
from theory.statements import s6_margin_telescope as s6
from theory.statements import s12g_gaussian_information as s12g
from theory.statements import s15a_refit_without_vision as s15a


def test_p_ia_two_bits_against_1_81():
    pair = p_ia.two_pairs(0.75)
    bits = math.log(2)
    assert entropy(pair.p, [1], given=[0]) / bits == pytest.approx(2.0)
    assert p_ia.bound(pair) / bits == pytest.approx(1.811, abs=5e-4)
    assert pair.limit == 0.5
    assert pair.tail == 0.5


def test_s6_bound_2_gap_98():
    case = s6.segment_slopes()
    assert case.bound == 2.0
    assert abs(float(case.full[-1][0] - case.skip[0])) == 98.0


@pytest.mark.parametrize("rho", [-0.4, 0.5, 0.9])
def test_s12g_agrees_with_the_determinant(rho):
    joint = np.block([[np.eye(3), rho * np.eye(3)], [rho * np.eye(3), np.eye(3)]])
    expected = -0.5 * math.log(np.linalg.det(joint))
    assert s12g.Cross(rho * np.eye(3)).information == pytest.approx(expected)


def test_s12g_mean_cosine_is_another_number_in_one_dimension():
    mean = 1.0 - 2.0 / math.pi * math.asin(0.5)  # E d of signs at correlation 1/2
    assert -0.5 * math.log(2 * mean - mean**2) == pytest.approx(0.059, abs=5e-4)
    assert s12g.Cross(np.array([[0.5]])).information == pytest.approx(0.144, abs=5e-4)


def test_s15a_by_simulation():
    """4,000 refits at n = 40 with 10 + 10 features; the formula says .708."""
    rng = np.random.default_rng(0)
    case = s15a.Regression(40, 10, 10, 1.0)
    x = rng.standard_normal((4000, 40, 20))
    noise = rng.standard_normal((4000, 40, 1))
    extra = []
    for columns in (20, 10):
        design = x[:, :, :columns]
        gram = np.swapaxes(design, 1, 2) @ design
        coefficients = np.linalg.solve(gram, np.swapaxes(design, 1, 2) @ noise)
        extra.append((coefficients**2).sum(axis=(1, 2)))  # error on a new draw, less sigma^2
    found = extra[0] - extra[1]
    error = float(found.std() / math.sqrt(len(found)))
    assert s15a.formula(case) == pytest.approx(0.708, abs=5e-4)
    assert abs(found.mean() - s15a.formula(case)) < 4 * error
    assert error < 0.02
