"""Usable information: closed forms, what it may never exceed, units, and speed-free promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import mutual_information, usable_information
from estimators.usable._folds import folds_of
from estimators.usable.crossfit import held_out_log_probabilities, probes_of, uncorrelated
from estimators.usable.linear import LinearProbe, inner_rows


def logistic(n: int, d: int, seed: int, slope: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x, (rng.random(n) < 1 / (1 + np.exp(-slope * x[:, 0]))).astype(int)


def logistic_information(slope: float = 3.0) -> float:
    """I(X;Y) of the logistic model above, by quadrature over x."""
    t = np.linspace(-8, 8, 20_001)
    weight = np.exp(-0.5 * t**2) / np.sqrt(2 * np.pi)
    p = np.clip(1 / (1 + np.exp(-slope * t)), 1e-15, 1 - 1e-15)
    conditional = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    return float(np.log(2) - np.trapezoid(weight * conditional, t))


@pytest.mark.parametrize("method", ["linear", "mlp", "auto"])
def test_a_logistic_model_is_read_in_full(method: str) -> None:
    found = usable_information(*logistic(3000, 2, 0), method=method)
    assert found.value == pytest.approx(logistic_information(), abs=0.04)
    assert found.reliable


@pytest.mark.slow
def test_intervals_cover_the_logistic_truth() -> None:
    truth = logistic_information()
    found = [usable_information(*logistic(800, 1, seed), method="linear", level=0.9)
             for seed in range(60)]  # fmt: skip
    covered = np.mean([one.interval[0] <= truth <= one.interval[1] for one in found])
    assert covered >= 0.8


def test_gaussian_target_is_read_in_full() -> None:
    x, e = np.random.default_rng(0).normal(size=(2, 4000, 2))
    found = usable_information(x, x + e, method="linear")
    assert found.value == pytest.approx(np.log(2), abs=0.04)


def test_given_takes_out_what_is_known() -> None:
    x, e = np.random.default_rng(0).normal(size=(2, 4000, 2))
    y = x + e
    found = usable_information(x[:, :1], y, given=x[:, 1:], method="linear")
    assert found.value == pytest.approx(0.5 * np.log(2), abs=0.03)
    nothing = usable_information(x[:, :1], y[:, :1], given=x[:, :1] * 2 + 1, method="linear")
    assert nothing.value == pytest.approx(0.0, abs=0.01)


@pytest.mark.slow
def test_a_family_reads_only_what_it_can() -> None:
    """An exclusive or of signs: nothing for a linear probe, much for a neural one."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 2))
    y = x[:, 0] * x[:, 1] > 0
    linear = usable_information(x, y, method="linear", unit="bits")
    neural = usable_information(x, y, method="mlp", unit="bits")
    assert abs(linear.value) < 0.02
    assert neural.value > 0.7
    product = usable_information(np.c_[x, x[:, :1] * x[:, 1:]], y, method="linear", unit="bits")
    assert product.value > 0.7  # processing raises it: no data-processing inequality


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 4))
def test_it_never_exceeds_the_entropy_of_the_target(seed: int, d: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(200, d)), rng.integers(0, classes, size=200)
    found = usable_information(x, y, method="linear")
    assert found.value <= found.diagnostics["loss_without"] + 1e-9


def test_noise_reads_about_nothing() -> None:
    rng = np.random.default_rng(0)
    found = usable_information(rng.normal(size=(1500, 30)), rng.integers(0, 3, 1500))
    assert found.interval[0] <= 0.01
    assert found.value < 0.02


def test_null_tells_signal_from_noise() -> None:
    x, y = logistic(200, 1, 0)
    signal = usable_information(x, y, method="linear", permutations=19)
    noise = usable_information(x[::-1].copy(), y, method="linear", permutations=19)
    assert signal.diagnostics["p_value"] == pytest.approx(0.05)
    assert noise.diagnostics["p_value"] > 0.05


def test_wide_rows_lose_nothing_by_rotation() -> None:
    """A ridge on the rotated coordinates is the ridge on all columns."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 200))
    z = (x - x.mean(0)) / x.std(0)
    turned = uncorrelated(x)
    assert turned.shape[1] <= 60
    assert turned @ turned.T == pytest.approx(z @ z.T, abs=1e-8)
    tall = rng.normal(size=(80, 5)) @ rng.normal(size=(5, 5))
    cross = np.cov(uncorrelated(tall), rowvar=False)
    assert cross == pytest.approx(np.diag(np.diag(cross)), abs=1e-9)


def test_the_linear_probe_is_the_penalised_optimum() -> None:
    """Its gradient vanishes: the fit is convex, so that is the optimum."""
    from estimators.usable.linear import _logistic

    x, y = logistic(400, 4, 0)
    a = uncorrelated(x)
    weights = _logistic(a, y, 2, 0.1, np.zeros((5, 2)))
    scores = a @ weights[:-1] + weights[-1]
    p = np.exp(scores - scores.max(1, keepdims=True))
    error = (p / p.sum(1, keepdims=True) - np.eye(2)[y]) / len(y)
    assert np.abs(a.T @ error + 0.1 * weights[:-1]).max() < 1e-3
    assert np.abs(error.sum(0)).max() < 1e-3


def test_a_label_the_training_rows_lack_costs_no_infinity() -> None:
    x = np.random.default_rng(0).normal(size=(100, 2))
    y = np.zeros(100, dtype=int)
    y[:3], y[3] = 1, 2
    log_p = held_out_log_probabilities(x, y, np.arange(100), probes_of("linear", 100), 5, 0)
    assert np.isfinite(log_p).all()
    assert np.exp(log_p).sum(axis=1) == pytest.approx(np.ones(100))


@given(st.integers(2, 30), st.integers(2, 6), st.integers(0, 99))
def test_folds_part_clusters_and_cover_rows(clusters: int, count: int, seed: int) -> None:
    codes = np.random.default_rng(seed).permutation(np.arange(3 * clusters) % clusters)
    if clusters < count:
        with pytest.raises(ValueError, match="cannot fill"):
            folds_of(codes, count, seed)
        return
    seen = []
    for train, held in folds_of(codes, count, seed):
        assert not set(codes[train]) & set(codes[held])
        assert len(held)
        seen += held.tolist()
    assert sorted(seen) == list(range(3 * clusters))
    inner = inner_rows(codes, seed)
    assert not set(codes[inner]) & set(codes[~inner])


def test_units_widen_the_interval() -> None:
    x, y = logistic(300, 1, 0)
    rows = usable_information(np.repeat(x, 4, 0), np.repeat(y, 4), method="linear")
    clustered = usable_information(
        np.repeat(x, 4, 0), np.repeat(y, 4), method="linear", clusters=np.repeat(np.arange(300), 4)
    )
    assert clustered.n == 300
    widths = [one.interval[1] - one.interval[0] for one in (rows, clustered)]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.25)


def test_tensors_and_units_of_measure() -> None:
    x, y = logistic(300, 2, 0)
    nats = usable_information(x, y, method="linear")
    bits = usable_information(torch.tensor(x), torch.tensor(y), method="linear", unit="bits")
    assert bits.value == pytest.approx(nats.value / np.log(2))
    assert bits.unit == "bits"


def test_a_probe_bounds_the_information_from_below() -> None:
    found = mutual_information(*logistic(3000, 5, 0), method="probe")
    assert found.value <= logistic_information() + 0.03
    assert found.value > 0.8 * logistic_information()


def test_what_is_refused() -> None:
    x, y = logistic(40, 2, 0)
    with pytest.raises(ValueError, match="unknown method 'forest'; choose from auto, linear, mlp"):
        usable_information(x, y, method="forest")
    with pytest.raises(ValueError, match="unknown unit 'dits'"):
        usable_information(x, y, unit="dits")
    with pytest.raises(ValueError, match="needs at least 2 folds, got 1"):
        usable_information(x, y, folds=1)
    with pytest.raises(ValueError, match="40 independent clusters cannot fill 50 folds"):
        usable_information(x, y, folds=50)
    wide = np.random.default_rng(0).normal(size=(40, 6))
    with pytest.raises(ValueError, match="too few for the residual covariance of 6 targets"):
        usable_information(x, wide)
    many = usable_information(
        np.tile(x, (5, 1)) + 0.1 * np.random.default_rng(1).normal(size=(200, 2)),
        np.random.default_rng(0).normal(size=(200, 6)),
    )
    assert "which biases the value down" in many.reason
    with pytest.raises(ValueError, match="y has 39"):
        usable_information(x, y[:39])
    with pytest.raises(ValueError, match="y has one label"):
        usable_information(x, np.zeros(40, dtype=int))
    assert LinearProbe().name == "linear"
    assert not usable_information(x, y).reliable  # 40 units


def test_repeated_rows_without_clusters_are_doubted():
    rng = np.random.default_rng(0)
    x, y = np.repeat(rng.normal(size=(60, 3)), 10, axis=0), np.repeat(rng.integers(0, 2, 60), 10)
    assert "repeat an earlier one" in usable_information(x, y, method="linear").reason
    clustered = usable_information(x, y, method="linear", clusters=np.repeat(np.arange(60), 10))
    assert "repeat an earlier one" not in clustered.reason
    whole = rng.integers(0, 3, size=(600, 3))
    assert usable_information(whole, rng.integers(0, 2, 600), method="linear").reliable


def test_linear_probe_finds_what_near_copies_differ_in():
    for seed in range(2):
        a, b, noise = np.random.default_rng(seed).normal(size=(3, 1000, 1))
        hidden, plain = (
            usable_information(np.concatenate([a, other], axis=1), b + noise, method="linear")
            for other in (a + 1e-4 * b, b)
        )
        assert abs(hidden.value - plain.value) < 0.02


@pytest.mark.parametrize("gap", [0.03, 1e-3, 1e-4])
def test_a_logistic_probe_finds_what_near_copies_differ_in(gap: float) -> None:
    """Wide directions that say nothing are no reason to stop before the narrow ones."""
    h = np.random.default_rng(1).normal(size=(1000, 3))
    u, y = logistic(1000, 3, 0)
    hidden, plain = (
        usable_information(np.concatenate([h, other], axis=1), y, method="linear")
        for other in (h + gap * u, u)
    )
    assert abs(hidden.value - plain.value) < 0.03
    assert hidden.reliable


def test_near_copies_beyond_every_penalty_are_doubted() -> None:
    h = np.random.default_rng(1).normal(size=(1000, 3))
    u, y = logistic(1000, 3, 0)
    for target in (y, u):
        found = usable_information(np.c_[h, h + 1e-6 * u], target, method="linear")
        assert "so nearly combinations of others" in found.reason
    copied = usable_information(np.c_[h, h.astype(np.float32)], y, method="linear")
    assert copied.reliable  # a copy up to rounding adds nothing


def test_a_few_far_rows_do_not_stop_the_logistic_fit() -> None:
    x, y = logistic(2000, 5, 0)
    y[:3] = x[:3, 0] > 0
    x[:3] *= 1e6
    assert usable_information(x, y, method="linear").value > 0.8 * logistic_information()


def test_a_column_constant_in_a_fold_is_no_error() -> None:
    x = np.ones((200, 1))
    x[7] = 2.0
    y = np.arange(200) % 2
    assert usable_information(x, y, method="linear").value == pytest.approx(0.0, abs=0.02)
