import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from estimators import (
    PairRows,
    angular_distance,
    block_influence,
    cosine_distance,
    cosine_quantiles,
    cosine_tail,
    norm_ratio,
    relative_update_norm,
)

ENTRIES = st.floats(-1e3, 1e3).filter(lambda v: v == 0.0 or abs(v) > 1e-3)
MEASURES = (cosine_distance, angular_distance, norm_ratio, relative_update_norm)


@st.composite
def pairs(draw):
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 5)))
    x, y = (draw(hnp.arrays(np.float64, shape, elements=ENTRIES)) for _ in range(2))
    assume(np.abs(x).max(axis=1).all() and np.abs(y).max(axis=1).all())
    return x, y


@given(pairs())
def test_measures_equal_the_plain_formulas(pair):
    x, y = pair
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        cos = sum(a * b) / (math.hypot(*a) * math.hypot(*b))
        assert cosine_distance(x, y)[i] == pytest.approx(1.0 - cos, abs=1e-12)
        angle = math.acos(min(1.0, max(-1.0, cos))) / math.pi
        assert angular_distance(x, y)[i] == pytest.approx(angle, abs=2e-7)
        assert norm_ratio(x, y)[i] == pytest.approx(math.hypot(*b) / math.hypot(*a))
        update = math.hypot(*(b - a)) / math.hypot(*a)
        assert relative_update_norm(x, y)[i] == pytest.approx(update, rel=1e-9, abs=1e-12)


@given(pairs())
def test_law_of_cosines(pair):
    # |y-x|^2 = (|y|-|x|)^2 + 2 |x||y| d, divided by |x|^2.
    rows = PairRows.of(*pair)
    squared = (rows.norm_ratio - 1.0) ** 2 + 2.0 * rows.norm_ratio * rows.cosine
    np.testing.assert_allclose(rows.relative_update**2, squared, rtol=1e-10, atol=1e-13)


@given(pairs(), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_cosine_is_symmetric_bounded_and_blind_to_scale(pair, a, b):
    x, y = pair
    distance = cosine_distance(x, y)
    assert ((distance >= 0.0) & (distance <= 2.0)).all()
    np.testing.assert_allclose(distance, cosine_distance(y, x), atol=1e-14)
    np.testing.assert_allclose(distance, cosine_distance(a * x, b * y), atol=1e-13)


@given(pairs())
def test_rows_are_reduced_as_the_functions_do(pair):
    rows = PairRows.of(*pair)
    np.testing.assert_array_equal(rows.cosine, cosine_distance(*pair))
    np.testing.assert_array_equal(rows.angular, angular_distance(*pair))
    np.testing.assert_array_equal(rows.norm_ratio, norm_ratio(*pair))
    np.testing.assert_array_equal(rows.relative_update, relative_update_norm(*pair))


def test_known_angles():
    angles = np.array([0.0, 1e-9, 0.25, 0.5, 0.75, 1.0]) * np.pi
    x = np.tile([1.0, 0.0], (6, 1))
    y = 3.0 * np.c_[np.cos(angles), np.sin(angles)]
    np.testing.assert_allclose(angular_distance(x, y), angles / np.pi, rtol=1e-9)
    # 1 - cos would be 0 here; the chord keeps the digits.
    assert cosine_distance(x, y)[1] == pytest.approx(0.5 * (1e-9 * np.pi) ** 2, rel=1e-9)


def test_equal_rows_are_exactly_at_distance_zero():
    x = np.random.default_rng(0).normal(size=(200, 33))
    assert not PairRows.of(x, x).cosine.any()
    assert not PairRows.of(x, x).relative_update.any()


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e30, 1e300])
def test_extreme_sizes_neither_overflow_nor_vanish(size):
    rows = PairRows.of([[size, 0.0]], [[0.0, size]])
    assert rows.cosine[0] == pytest.approx(1.0)
    assert rows.relative_update[0] == pytest.approx(math.sqrt(2.0))


def test_float32_is_accumulated_in_float64():
    rng = np.random.default_rng(0)
    x = (1e25 * rng.normal(size=(50, 4096))).astype(np.float32)  # squares overflow float32
    y = x + (1e22 * rng.normal(size=x.shape)).astype(np.float32)
    for measure in MEASURES:
        exact = measure(x.astype(np.float64), y.astype(np.float64))
        np.testing.assert_allclose(measure(x, y), exact, rtol=1e-12)


def test_blocks_leave_no_seam():
    x, y = np.random.default_rng(0).normal(size=(2, 150_000, 3))
    whole = PairRows.of(x, y)
    part = PairRows.of(x[20_000:30_000], y[20_000:30_000])
    np.testing.assert_array_equal(whole.cosine[20_000:30_000], part.cosine)
    plain = np.linalg.norm(y, axis=1) / np.linalg.norm(x, axis=1)
    np.testing.assert_allclose(whole.norm_ratio, plain)


@pytest.mark.parametrize("measure", MEASURES)
def test_no_rows_give_no_values(measure):
    assert measure(np.empty((0, 3)), np.empty((0, 3))).shape == (0,)


def test_a_zero_output_is_fine_where_no_direction_is_needed():
    assert norm_ratio([[1.0]], [[0.0]]).tolist() == [0.0]
    assert relative_update_norm([[1.0]], [[0.0]]).tolist() == [1.0]


@pytest.mark.parametrize("measure", [*MEASURES, PairRows.of])
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1.0], [1.0], r"x must have shape \(n, d\) with d >= 1, got \(1,\)"),
        ([[1.0]], [[1.0, 2.0]], r"x has shape \(1, 1\) but y has shape \(1, 2\)"),
        ([[1j]], [[1.0]], "x must be real numbers, got dtype complex128"),
        ([[1.0], [math.nan]], [[1.0], [1.0]], "row 1 of x holds NaN or inf"),
        ([[1.0], [1.0]], [[1.0], [math.inf]], "row 1 of y holds NaN or inf"),
        ([[1.0, 1.0], [0.0, 0.0]], [[1.0, 1.0]] * 2, "row 1 of x is the zero vector"),
    ],
)
def test_bad_rows_are_named(measure, x, y, message):
    with pytest.raises(ValueError, match=message):
        measure(x, y)


@pytest.mark.parametrize("measure", [cosine_distance, angular_distance, PairRows.of])
def test_a_direction_needs_a_nonzero_output(measure):
    with pytest.raises(ValueError, match="row 1 of y is the zero vector: no direction"):
        measure(np.ones((2, 2)), [[1.0, 0.0], [0.0, 0.0]])


def test_the_row_is_named_beyond_the_first_block():
    x = np.ones((90_000, 2))
    x[80_000] = 0.0
    with pytest.raises(ValueError, match="row 80000 of x"):
        cosine_distance(x, np.ones((90_000, 2)))


def test_float32_rounding_from_a_device_is_clipped():
    cosine = np.array([-1e-7, 2.0000002], dtype=np.float32)
    rows = PairRows(cosine, np.ones(2), np.zeros(2))
    assert rows.cosine.tolist() == [0.0, 2.0]
    assert rows.cosine.dtype == np.float64


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([0.1], [1.0], [0.1, 0.2]), r"differ in length: \(1, 1, 2\)"),
        (([2.1], [1.0], [0.1]), r"cosine\[0\] is 2.1, outside \[0, 2\]"),
        (([-0.1], [1.0], [0.1]), r"cosine\[0\] is -0.1, outside \[0, 2\]"),
        (([0.1], [-1.0], [0.1]), r"norm_ratio\[0\] is negative"),
        (([0.1], [1.0], [-0.1]), r"relative_update\[0\] is negative"),
        (([0.1], [math.nan], [0.1]), r"norm_ratio\[0\] is nan"),
    ],
)
def test_pair_rows_refuse_what_cannot_be(arrays, message):
    with pytest.raises(ValueError, match=message):
        PairRows(*(np.array(one) for one in arrays))


def test_select_picks_rows_by_mask_and_by_index():
    rows = PairRows.of(np.eye(3), np.diag([1.0, 2.0, 3.0]))
    assert rows.select(np.array([False, True, True])).norm_ratio.tolist() == [2.0, 3.0]
    assert len(rows.select(np.array([0]))) == 1


@given(pairs(), st.lists(st.floats(0.0, 2.0), min_size=1, max_size=4))
def test_what_is_said_of_all_rows_equals_a_loop(pair, eps):
    distances = sorted(float(d) for d in cosine_distance(*pair))
    n = len(distances)
    assert block_influence(*pair) == pytest.approx(sum(distances) / n, abs=1e-12)
    shares = [sum(d > e for d in distances) / n for e in eps]
    np.testing.assert_allclose(cosine_tail(*pair, eps), shares, atol=1e-12)
    levels = (0.01, 0.5, 0.99)
    wanted = [distances[math.ceil(level * n) - 1] for level in levels]
    assert cosine_quantiles(*pair, levels).tolist() == wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("measure", MEASURES)
def test_torch_is_numpy(measure, dtype):
    x, y = (torch.randn(40, 7, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    x, y = x.to(dtype), y.to(dtype)
    np.testing.assert_array_equal(measure(x, y), measure(x.double().numpy(), y.double().numpy()))


@pytest.mark.parametrize(
    "measure",
    [
        block_influence,
        lambda x, y: cosine_tail(x, y, [0.1]),
        lambda x, y: cosine_quantiles(x, y, [0.5]),
    ],
)
def test_nothing_can_be_said_of_no_rows(measure):
    with pytest.raises(ValueError, match="there are no rows"):
        measure(np.empty((0, 3)), np.empty((0, 3)))


def test_levels_and_thresholds_are_checked():
    with pytest.raises(ValueError, match="quantile level must lie strictly between 0 and 1"):
        cosine_quantiles([[1.0]], [[1.0]], [1.0])
    with pytest.raises(ValueError, match="eps must be one-dimensional"):
        cosine_tail([[1.0]], [[1.0]], [[0.1]])
