"""The strategies make what they promise, and reach the corners that matter."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings

from estimators import strategies

SEARCH = settings(max_examples=5000, database=None, derandomize=True, phases=[Phase.generate])


@given(strategies.joint_pmfs((2, (1, 3), (2, 4))))
def test_joint_pmfs_are_pmfs_of_the_asked_shape(p):
    assert p.ndim == 3
    assert (p.shape[0], p.shape[1] <= 3, 2 <= p.shape[2] <= 4) == (2, True, True)
    assert (p >= 0.0).all()
    assert p.sum() == pytest.approx(1.0, abs=1e-12)


@given(strategies.joint_pmfs(3, positive=True))
def test_positive_pmfs_are_positive(p):
    assert (p > 0.0).all()


@pytest.mark.parametrize(
    "corner",
    [
        lambda p: (p == 0.0).any(),
        lambda p: p.max() == 1.0,
        lambda p: (p.sum(axis=(1, 2)) == 0.0).any(),
        lambda p: (p > 0.0).all(),
        lambda p: len(set(p.shape)) == 3,
    ],
)
def test_corners_are_reached(corner):
    p = find(strategies.joint_pmfs(3), corner, settings=SEARCH)
    assert corner(p)


def test_functions_of_many_causes_are_reached():
    """Nine causes with one effect each: chance alone would need hundreds of thousands of draws."""

    def is_function(p):
        return (p.sum(axis=2) > 0.0).all() and ((p > 0.0).sum(axis=2) == 1).all()

    assert is_function(find(strategies.joint_pmfs((3, 3, 4)), is_function, settings=SEARCH))


@given(strategies.channels((1, 4), (1, 4)))
def test_rows_of_channels_are_pmfs(channel):
    assert (channel >= 0.0).all()
    assert channel.sum(axis=1) == pytest.approx(np.ones(len(channel)))


@given(strategies.permutation_channels(4))
def test_permutation_channels_rename(channel):
    assert (channel @ channel.T == np.eye(4)).all()


@given(strategies.garblings())
def test_garblings_compose(three):
    channel, garbling, worse = three
    assert channel @ garbling == pytest.approx(worse)
    assert worse.sum(axis=1) == pytest.approx(np.ones(len(worse)))


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(strategies.markov_chains(4, 2))
def test_markov_chains_have_their_axes(p):
    assert p.ndim == 4
    assert p.sum() == pytest.approx(1.0)


@given(strategies.covariances((1, 5), condition=100.0))
def test_covariances_are_positive_definite(c):
    values = np.linalg.eigvalsh(c)
    assert (c == c.T).all()
    assert values[0] > 0.0
    assert values[-1] / values[0] <= 100.0 * (1.0 + 1e-6)


def test_dense_keeps_outcomes_apart():
    import dit

    p = np.array([[0.5, 0.0, 0.125], [0.0, 0.25, 0.125]])
    assert strategies.dense(dit.Distribution.from_ndarray(p)) == pytest.approx(p)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: strategies.joint_pmfs(()), "at least one variable is needed"),
        (lambda: strategies.joint_pmfs((0, 2)), "a size must be at least 1"),
        (lambda: strategies.channels((3, 2)), "a range in order"),
        (lambda: strategies.markov_chains(1), "a chain needs at least 2 variables"),
        (lambda: strategies.covariances(2, condition=0.5), "condition must be at least 1"),
    ],
)
def test_bad_requests_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        find(make(), lambda _: True)
