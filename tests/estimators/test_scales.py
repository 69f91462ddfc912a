"""What does not depend on the scale of the rows is the same at any scale, without warnings."""

import warnings

import numpy as np
import pytest

from estimators import effective_rank, entropy, intrinsic_dimension, linear_cka

X = np.random.default_rng(0).normal(size=(300, 3))


@pytest.mark.parametrize("scale", [1e-200, 1e-120, 1e80, 1e120])
@pytest.mark.parametrize(
    "measure", [intrinsic_dimension, effective_rank, lambda x: linear_cka(x, x[:, :2])]
)
def test_scale_is_immaterial(measure, scale):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = measure(scale * X).value
    assert value == pytest.approx(measure(X).value, rel=1e-9)


def test_entropy_of_large_clustered_rows():
    clusters = np.arange(300) // 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        large = entropy(1e100 * X, clusters=clusters)
    plain = entropy(X, clusters=clusters)
    assert large.value == pytest.approx(plain.value + 300 * np.log(10.0), rel=1e-9)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_dimension_lies_in_its_interval_and_below_the_number_of_columns(d):
    cut = 0
    for seed in range(20):
        found = intrinsic_dimension(np.random.default_rng(seed).normal(size=(200, d)))
        low, high = found.interval
        assert low <= found.value <= high <= d
        cut += "uncut" in found.diagnostics
        assert found.diagnostics.get("uncut", found.value) >= found.value
    assert 0 < cut < 20
