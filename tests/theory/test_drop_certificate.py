"""The certificate of an accuracy drop: never looser than without labels, and right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory import certify_drop, certify_mean, label_free_drop
from theory.certificates.drop import drop_upper_bound

METHODS = ("auto", "betting", "harm", "hoeffding", "hoeffding-bentkus")
OF_DISAGREEMENT = {"harm": "clopper-pearson"}


@st.composite
def answers(draw):
    """(drop, changed, clusters): some answers change, some of those from right to wrong."""
    n = draw(st.integers(1, 60))
    seed, rate = draw(st.integers(0, 10**6)), draw(st.sampled_from([0.0, 0.02, 0.2, 0.9]))
    rng = np.random.default_rng(seed)
    changed = (rng.random(n) < rate).astype(float)
    drop = changed * rng.choice([-1.0, 0.0, 1.0], n)
    per_image = draw(st.sampled_from([1, 1, 3]))
    return drop, changed, rng.permutation(np.arange(n) // per_image).tolist()


@pytest.mark.parametrize("method", METHODS)
@given(answers(), st.sampled_from([0.01, 0.05, 0.4]))
@settings(max_examples=40)
def test_never_looser_than_without_labels(method, made, delta):
    drop, changed, clusters = made
    level = {"epsilon": 0.1, "delta": delta}
    plain = OF_DISAGREEMENT.get(method, method)
    free = certify_mean(changed, clusters, quantity="disagreement", method=plain, **level)
    bound = certify_drop(drop, changed, clusters, method=method, **level)
    assert bound.bound <= label_free_drop(free).bound
    assert bound.quantity == "accuracy_drop"
    assert bound.holds == (bound.bound <= 0.1)


@pytest.mark.parametrize("per_image", [1, 2])
@pytest.mark.parametrize(("harmed", "helped"), [(0.1, 0.0), (0.1, 0.08), (0.3, 0.3)])
def test_error_rate(harmed, helped, per_image):
    """The true drop is above the bound in at most delta of the samples."""
    rng, delta, trials, n = np.random.default_rng(0), 0.1, 300, 40
    clusters = np.repeat(np.arange(n), per_image).tolist()
    wrong = 0
    for _ in range(trials):
        # Both questions of an image change together: the image is the independent unit.
        u = np.repeat(rng.random(n), per_image)
        drop = (u < harmed).astype(float) - (u > 1 - helped)
        made = certify_drop(drop, np.abs(drop), clusters, epsilon=0.5, delta=delta)
        wrong += made.bound < harmed - helped
    assert wrong <= delta * trials + 3 * np.sqrt(delta * (1 - delta) * trials)


def test_answers_that_are_mended_pay_for_harmed_ones():
    """With several questions per image the betting bound sees the difference."""
    rng = np.random.default_rng(0)
    changed = (rng.random(800) < 0.1).astype(float)
    drop = changed * np.where(rng.random(800) < 0.5, 1.0, -1.0)
    clusters = (np.arange(800) // 2).tolist()
    made = certify_drop(drop, changed, clusters, epsilon=0.1, delta=0.05)
    harm = certify_drop(np.maximum(drop, 0), changed, clusters, epsilon=0.1, delta=0.05)
    free = certify_mean(changed, clusters, quantity="disagreement", epsilon=0.1, delta=0.05)
    assert made.bound < harm.bound < free.bound
    assert made.bound >= made.estimate


def test_all_mended_is_a_negative_drop():
    changed = np.full(100, 0.5)
    assert drop_upper_bound(-changed, changed, 0.05) < 0


def test_refusals():
    with pytest.raises(ValueError, match=r"drop\[1\] is 1 where changed is 0; accuracy can fall"):
        certify_drop([0, 1], [0, 0], "ab", epsilon=0.1, delta=0.1)
    with pytest.raises(ValueError, match="drop has 1 values but changed has 2"):
        certify_drop([0], [0, 0], "ab", epsilon=0.1, delta=0.1)
    with pytest.raises(ValueError, match="unknown method 'best'"):
        certify_drop([0, 0], [0, 0], "ab", epsilon=0.1, delta=0.1, method="best")
