"""PID from samples: identities, the parts against plain ones, bias, coverage and null."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, kstest

from estimators import PID, pid, pid_from_counts, pid_from_pmf, quantize
from estimators.decomposition import _smooth_bootstrap, _solved, exchangeability, smooth
from estimators.decomposition.by_bins import pid_by_bin_count
from estimators.decomposition.result import ATOMS
from estimators.discrete import entropy_counts

few = settings(max_examples=8)
TABLES = st.integers(0, 10_000).map(
    lambda seed: (
        np.random.default_rng(seed)
        .multinomial(200, np.random.default_rng(seed).dirichlet(np.full(18, 0.7)))
        .reshape(2, 3, 3)
    )
)


def atoms(result):
    return np.array(list(result.atoms.values()))


# --- pid and pid_from_counts ---------------------------------------------------------------------


@few
@given(TABLES)
def test_plugin_is_the_pid_of_the_empirical_pmf(counts):
    found = pid_from_counts(counts, method="plugin", unit="bits")
    exact = pid_from_pmf(counts / counts.sum(), unit="bits")
    assert atoms(found) == pytest.approx(atoms(exact), abs=1e-6)
    assert found.n == counts.sum()
    assert found.method == "plugin"
    assert not found.intervals
    assert found.gap is not None
    assert found.lower <= found.upper


@few
@given(TABLES)
def test_samples_and_their_table_give_the_same(counts):
    assume(all(counts.any(axis=axes).all() for axes in ((1, 2), (0, 2), (0, 1))))
    rows = np.repeat(np.argwhere(counts), counts[counts > 0], axis=0)
    rng = np.random.default_rng(0)
    x1, x2, y = rng.permutation(rows).T
    assert pid(x1, x2, np.array(["a", "b", "c"])[y]) == pid_from_counts(counts)


@few
@given(TABLES)
def test_bits_are_nats_over_log_two(counts):
    nats, bits = (
        pid_from_counts(counts, permutations=20),
        pid_from_counts(counts, unit="bits", permutations=20),
    )
    assert atoms(bits) * math.log(2.0) == pytest.approx(atoms(nats), abs=1e-12)
    assert bits.gap * math.log(2.0) == pytest.approx(nats.gap, abs=1e-12)
    for name in ATOMS:
        assert np.array(bits.intervals[name]) * math.log(2.0) == pytest.approx(
            nats.intervals[name], abs=1e-12
        )
        assert bits.diagnostics[f"plugin_{name}"] * math.log(2.0) == pytest.approx(
            nats.diagnostics[f"plugin_{name}"], abs=1e-12
        )
    assert bits.p_values == nats.p_values


@few
@given(TABLES)
def test_atoms_lie_in_their_intervals_and_higher_levels_are_wider(counts):
    narrow, wide = pid_from_counts(counts, level=0.5), pid_from_counts(counts, level=0.99)
    for name, value in narrow.atoms.items():
        low, high = narrow.intervals[name]
        assert low <= max(value, 0.0)  # intervals are cut to what is possible, atoms are not
        assert min(value, math.log(2.0)) <= high
        assert wide.intervals[name][0] <= low
        assert high <= wide.intervals[name][1]
        assert wide.intervals[name] != narrow.intervals[name]


def test_exchanging_the_sources_exchanges_the_uniques():
    """Up to the draw of the resamples: the laws are the same, the random numbers are not."""
    counts = 50 * np.random.default_rng(0).multinomial(40, np.full(27, 1 / 27)).reshape(3, 3, 3)
    one, other = pid_from_counts(counts), pid_from_counts(counts.transpose(1, 0, 2))
    swapped = replace(one, unique_1=one.unique_2, unique_2=one.unique_1)
    assert atoms(other) == pytest.approx(atoms(swapped), abs=0.01)


def test_symbols_that_never_occur_change_little():
    counts = np.random.default_rng(1).multinomial(900, np.full(27, 1 / 27)).reshape(3, 3, 3)
    padded = np.zeros((4, 4, 5), dtype=int)
    padded[:3, :3, 1:4] = counts
    assert atoms(pid_from_counts(padded)) == pytest.approx(atoms(pid_from_counts(counts)), abs=0.01)


def test_the_same_seed_gives_the_same_result():
    counts = np.random.default_rng(2).multinomial(300, np.full(8, 1 / 8)).reshape(2, 2, 2)
    assert pid_from_counts(counts, seed=5) == pid_from_counts(counts, seed=5)
    assert pid_from_counts(counts, seed=5) != pid_from_counts(counts, seed=6)


def test_large_samples_of_gates_give_the_truth():
    x = np.zeros((2, 2, 2), dtype=int)
    for a in (0, 1):
        for b in (0, 1):
            x[a, b, a & b] = 5000
    found = pid_from_counts(x, unit="bits")
    assert atoms(found) == pytest.approx([0.311278, 0.0, 0.0, 0.5], abs=5e-3)


def test_bias_of_the_unique_atoms_is_removed_at_a_tie():
    """There the plug-in is worst: both are zero and every table says more."""
    y = np.arange(4)
    channel = np.where(y[:, None] == y, 0.7, 0.1)
    p = np.einsum("ki,kj->ijk", channel, channel) / 4.0
    rng = np.random.default_rng(14)
    tables = rng.multinomial(300, p.ravel(), size=8).reshape(8, 4, 4, 4)
    uniques, plugin = [], []
    for table in tables:
        found = pid_from_counts(table)
        uniques += [found.unique_1, found.unique_2]
        plugin += [found.diagnostics["plugin_unique_1"], found.diagnostics["plugin_unique_2"]]
    assert np.mean(plugin) > 0.03
    assert abs(np.mean(uniques)) < 0.3 * np.mean(plugin)


@pytest.mark.parametrize("measure", ["mmi", "imin"])
def test_other_measures_are_corrected_too(measure):
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.full(64, 0.5)).reshape(4, 4, 4)
    counts = rng.multinomial(400, p.ravel()).reshape(p.shape)
    truth = atoms(pid_from_pmf(p, measure=measure))
    found = pid_from_counts(counts, measure=measure)
    plugin = atoms(pid_from_counts(counts, measure=measure, method="plugin"))
    assert found.measure == measure
    assert found.gap is None
    assert abs(atoms(found) - truth).max() < abs(plugin - truth).max()


def test_small_samples_are_called_unreliable():
    counts = np.random.default_rng(4).multinomial(60, np.full(125, 1 / 125)).reshape(5, 5, 5)
    assert "more samples or fewer symbols" in pid_from_counts(counts).reason
    counts = np.random.default_rng(4).multinomial(900, np.full(125, 1 / 125)).reshape(5, 5, 5)
    assert pid_from_counts(counts).reliable
    assert "plug-in atoms have no interval" in pid_from_counts(counts, method="plugin").reason


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: pid_from_counts([[1, 2]]),
            r"three axes|3 axes counts\[x1, x2, y\], got shape \(1, 2\)",
        ),
        (
            lambda: pid_from_counts([[[1, 0.5]]]),
            r"counts\[0, 0, 1\] = 0.5; counts are whole numbers",
        ),
        (lambda: pid_from_counts([[[1, -2]]]), r"counts\[0, 0, 1\] = -2"),
        (lambda: pid_from_counts([[[0, 0]]]), "counts nothing"),
        (
            lambda: pid_from_counts([[[1]]], method="jackknife"),
            "unknown method 'jackknife'; choose from",
        ),
        (lambda: pid_from_counts([[[1]]], unit="bytes"), "unknown unit 'bytes'"),
        (lambda: pid_from_counts([[[1]]], level=0.0), "level must lie strictly between 0 and 1"),
        (lambda: pid_from_counts([[[1]]], resamples=3), "resamples must be at least 20, got 3"),
        (
            lambda: pid_from_counts([[[1]]], permutations=-2),
            "permutations must be at least 0, got -2",
        ),
        (lambda: pid_from_counts([[[1]]], measure="best"), "best"),
        (lambda: pid([0.5], [1], [1]), r"x1\[0\] = 0.5 is not a category; bin continuous"),
        (lambda: pid([1, 2], [1], [1, 1]), "x1 has 2, x2 has 1, y has 2"),
    ],
)
def test_bad_requests_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- the projection -------------------------------------------------------------------------

VALUES = st.lists(st.floats(-1.0, 2.0), min_size=4, max_size=4)


def make(values):
    return PID(**dict(zip(ATOMS, values, strict=True)), unit="bits", measure="broja", n=10)


@given(VALUES, VALUES)
def test_projection_is_valid_and_nearest(values, other):
    given_, nearest = make(values), make(values).projected()
    assert min(atoms(nearest)) >= 0.0
    assert nearest.total == pytest.approx(max(given_.total, 0.0), abs=1e-12)
    assert nearest.projected().atoms == pytest.approx(nearest.atoms, abs=1e-12)
    rival = np.abs(other)
    if rival.sum() > 0.0:  # no other valid point with that total is nearer
        rival = rival / rival.sum() * nearest.total
        distance = np.linalg.norm(atoms(nearest) - values)
        assert distance <= np.linalg.norm(rival - values) + 1e-9


# --- the parts ------------------------------------------------------------------------------


@given(TABLES)
def test_folds_share_out_the_draws(counts):
    folds = smooth._split(counts, np.random.default_rng(0))
    assert (folds.sum(axis=0) == counts).all()
    assert np.ptp(folds.sum(axis=(1, 2, 3))) <= 1


@pytest.mark.parametrize("name", sorted(smooth.MODELS))
@few
@given(counts=TABLES)
def test_smooth_models_are_pmfs_that_exclude_nothing(name, counts):
    fitted = smooth.MODELS[name](counts[None].astype(float))[0]
    assert fitted.sum() == pytest.approx(1.0)
    possible = np.ones(counts.shape, dtype=bool)
    for axis in range(3):
        others = tuple(i for i in range(3) if i != axis)
        possible &= counts.sum(axis=others, keepdims=True) > 0
    assert (fitted[possible] > 0.0).all()
    assert (fitted[~possible] == 0.0).all()


@few
@given(TABLES)
def test_pairwise_model_has_the_pairwise_marginals(counts):
    n = counts[None].astype(float)
    fitted = smooth.MODELS["pairwise"](n)
    for pair in ((0, 1), (0, 2), (1, 2)):
        wanted = smooth._pair(n, *pair)
        assert smooth._over(fitted, *pair) == pytest.approx(wanted, abs=1e-3)


@few
@given(TABLES)
def test_total_of_the_corrected_atoms_is_grassbergers(counts):
    moved = _smooth_bootstrap._with_grassberger_total(np.zeros((1, 4)), counts[None])[0]
    both, answers = (entropy_counts(counts.sum(axis=a)) for a in (2, (0, 1)))
    assert moved == pytest.approx([0.0, 0.0, 0.0, both + answers - entropy_counts(counts)])


def test_each_model_is_chosen_where_it_is_true():
    rng = np.random.default_rng(5)
    px, py, pz = (rng.dirichlet(np.full(5, 3.0)) for _ in range(3))
    first, second = (rng.dirichlet(np.full(5, 0.3), size=5) for _ in range(2))
    given_target = np.einsum("k,ki,kj->ijk", pz, first, second)
    one_sided = np.einsum("k,ki,j->ijk", pz, first, py)
    systems = {
        "independent": np.einsum("i,j,k->ijk", px, py, pz),
        "source 1 with target": one_sided,
        "source 2 with target": one_sided.transpose(1, 0, 2),
        "sources together": one_sided.transpose(0, 2, 1),
        "independent given target": given_target,
    }
    for name, p in systems.items():
        counts = rng.multinomial(3000, p.ravel()).reshape(p.shape)
        found = smooth.smooth_model(counts, rng)
        assert found.model == name
        assert found.weight > 3000.0
    z = rng.normal(size=(3000, 3)) @ np.array([[1, 0.3, 0.5], [0, 1, 0.4], [0, 0, 0.8]])
    codes = np.stack([quantize(column, 6) for column in z.T])
    counts = np.zeros((6, 6, 6), dtype=int)
    np.add.at(counts, tuple(codes), 1)
    assert smooth.smooth_model(counts, rng).model == "gaussian copula"


def plain_stuart_maxwell(counts):
    """With the last category dropped and a plain inverse, target by target."""
    statistic, freedom = 0.0, 0
    for table in np.moveaxis(counts, 2, 0).astype(float):
        d = (table.sum(axis=1) - table.sum(axis=0))[:-1]
        v = np.diag(table.sum(axis=1) + table.sum(axis=0)) - table - table.T
        statistic += d @ np.linalg.inv(v[:-1, :-1]) @ d
        freedom += d.size
    return chi2.sf(statistic, freedom)


def test_stuart_maxwell_against_the_textbook():
    counts = np.random.default_rng(6).integers(1, 30, size=(4, 4, 3))
    found = exchangeability.exchangeability_p_value(counts)
    assert found == pytest.approx(plain_stuart_maxwell(counts), rel=1e-8)


def test_stuart_maxwell_corners():
    assert exchangeability.exchangeability_p_value(np.ones((2, 3, 2), dtype=int)) == 0.0
    same = np.zeros((3, 3, 2), dtype=int)
    same[range(3), range(3)] = 7
    assert exchangeability.exchangeability_p_value(same) == 1.0


def test_influence_is_the_derivative_of_the_atoms():
    """psi(cell) - mean psi is the slope of the atoms when that cell gains probability."""
    p = np.random.default_rng(7).dirichlet(np.full(27, 2.0)).reshape(3, 3, 3)
    base = _solved.Solved.of(p[None], "broja")
    centred = base.influence - base.influence @ p.reshape(-1, 1)
    step = 1e-4
    for cell in (0, 5, 13, 26):
        moved = (1.0 - step) * p.ravel()
        moved[cell] += step
        ahead = _solved.Solved.of(moved.reshape(1, 3, 3, 3), "broja").atoms[0]
        slope = (ahead - base.atoms[0]) / step
        assert slope == pytest.approx(centred[:, cell], abs=0.02)


# --- quantisation ---------------------------------------------------------------------------


@given(st.integers(0, 1000), st.integers(2, 12))
def test_equal_frequency_bins_are_equally_full(seed, bins):
    x = np.random.default_rng(seed).normal(size=240)
    codes = quantize(x, bins)
    assert codes.max() == bins - 1
    assert np.ptp(np.bincount(codes, minlength=bins)) <= 1
    assert (np.diff(codes[np.argsort(x)]) >= 0).all()
    assert (
        quantize(np.exp(x), bins) == codes
    ).mean() > 0.98  # monotone maps change (next to) nothing


@pytest.mark.parametrize("quantization", ["equal-frequency", "equal-width"])
def test_a_value_on_an_edge_goes_to_the_upper_bin(quantization):
    assert quantize([0, 1, 2, 3, 4], 2, quantization=quantization).tolist() == [0, 0, 1, 1, 1]


@given(st.integers(0, 1000), st.integers(2, 12))
def test_equal_width_bins_are_histogram_bins(seed, bins):
    x = np.random.default_rng(seed).normal(size=100)
    codes = quantize(x, bins, quantization="equal-width")
    counts, _ = np.histogram(x, bins=bins)
    assert (np.bincount(codes, minlength=bins) == counts).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quantize([1.0, 2.0], 1), "bins must be at least 2, got 1"),
        (lambda: quantize([1.0, 1.0], 2), r"x is constant \(1\); there is nothing to bin"),
        (lambda: quantize([1.0, math.nan], 2), r"x\[1\] is nan"),
        (lambda: quantize([], 2), "x is empty"),
        (lambda: quantize([[1.0, 2.0]], 2), "x must be one-dimensional"),
        (lambda: quantize([1.0, 2.0], 2, quantization="k-means"), "unknown quantization 'k-means'"),
        (lambda: quantize([0.0] * 8 + [1.0, 2.0], 4), "so many values equal to 0 that 4"),
        (lambda: pid_by_bin_count([1.0], [1.0], [1.0], bins=()), "bins is empty"),
        (
            lambda: pid_by_bin_count([1.0], [1.0], [1.0], target="y"),
            "unknown target 'y'; choose from",
        ),
        (lambda: pid_by_bin_count([1.0, 2.0], [3.0, 3.0], [1, 2]), "x2 is constant"),
    ],
)
def test_bad_quantisation_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_effect_of_bins_is_shown():
    x1, x2 = np.random.default_rng(8).normal(size=(2, 1500))
    found = pid_by_bin_count(x1, x2, x1 + 0.3 * x2, bins=(2, 4), method="plugin")
    assert list(found) == [2, 4]
    assert [result.diagnostics["bins"] for result in found.values()] == [2, 4]
    assert found[2].total < found[4].total
    labelled = pid_by_bin_count(
        x1, x2, x1 > 0.0, bins=(3,), target="categories", quantization="equal-width"
    )
    assert labelled[3].diagnostics["quantization"] == "equal-width"
    assert labelled[3] == replace(
        pid(
            quantize(x1, 3, quantization="equal-width"),
            quantize(x2, 3, quantization="equal-width"),
            x1 > 0.0,
        ),
        diagnostics=labelled[3].diagnostics,
    )


# --- calibration ----------------------------------------------------------------------------


def test_null_is_small_where_there_is_something():
    rng = np.random.default_rng(9)
    x1, x2 = rng.integers(0, 3, size=(2, 400))
    y = np.where(rng.random(400) < 0.6, (x1 + x2) % 3, rng.integers(0, 3, size=400))
    found = pid(x1, x2, y, permutations=99)
    assert found.p_values["total"] == 0.01
    assert found.p_values["synergistic"] == 0.01
    assert found.p_values["redundant"] > 0.05


def test_null_keeps_both_marginals():
    """What is permuted: the target against the pairs of sources, each as often as before."""
    seen = {}

    def spy(p, measure, tolerance=None):
        seen["p"] = p
        return original(p, measure, tolerance)

    counts = np.random.default_rng(10).multinomial(150, np.full(12, 1 / 12)).reshape(2, 3, 2)
    counts[1, 1] = 0
    original = _solved.Solved.of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_solved.Solved, "of", spy)
        pid_from_counts(counts, method="plugin", permutations=5)
    tables = np.rint(seen["p"] * counts.sum())
    assert tables.shape == (5, 2, 3, 2)
    assert (tables.sum(axis=3) == counts.sum(axis=2)).all()
    assert (tables.sum(axis=(1, 2)) == counts.sum(axis=(0, 1))).all()


@pytest.mark.slow
def test_p_values_are_uniform_under_the_null():
    p_values = {name: [] for name in ("total", "synergistic", "unique_1")}
    for seed in range(500):
        rng = np.random.default_rng([12, seed])
        x1, y = rng.integers(0, 3, size=(2, 120))
        x2 = (x1 + rng.integers(0, 2, size=120)) % 3
        found = pid(x1, x2, y, method="plugin", permutations=39, seed=seed)
        for name, values in p_values.items():
            values.append(found.p_values[name])
    assert kstest(p_values["total"], "uniform").pvalue > 0.01
    assert kstest(p_values["synergistic"], "uniform").pvalue > 0.01
    # The unique atom is exactly zero in some tables: ties make its p-values too large, never small.
    for level in (0.05, 0.1, 0.25):
        assert np.mean(np.array(p_values["unique_1"]) <= level) <= level + 0.04


@pytest.mark.slow
def test_bias_is_removed_and_intervals_cover():
    """Four bins, N = 1,000, 40 seeds; the full table is `python -m benchmarks.pid_samples`."""
    rng = np.random.default_rng(13)
    p = np.einsum(
        "k,ki,kj->ijk",
        rng.dirichlet(np.full(4, 5.0)),
        rng.dirichlet(np.full(4, 0.5), size=4),
        rng.dirichlet(np.full(4, 0.8), size=4),
    )
    truth = atoms(pid_from_pmf(p, unit="bits"))
    errors, plugin, inside = [], [], []
    for seed in range(40):
        counts = rng.multinomial(1000, p.ravel()).reshape(p.shape)
        found = pid_from_counts(counts, unit="bits", level=0.9, seed=seed)
        errors.append(atoms(found) - truth)
        plugin.append([found.diagnostics[f"plugin_{name}"] for name in ATOMS] - truth)
        ends = np.array([found.intervals[name] for name in ATOMS])
        inside.append((ends[:, 0] <= truth) & (truth <= ends[:, 1]))
    interior = truth > 0.02
    assert abs(np.mean(errors, axis=0)).max() < 0.02
    assert abs(np.mean(errors, axis=0)).sum() < abs(np.mean(plugin, axis=0)).sum()
    assert 0.8 <= np.mean(np.array(inside)[:, interior]) <= 0.99
