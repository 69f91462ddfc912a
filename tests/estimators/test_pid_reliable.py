"""What a PID says is true: intervals at zero atoms, what is possible, sizes, refusals."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import (
    pid,
    pid_from_counts,
    pid_from_covariance,
    pid_from_pmf,
    unique_informations,
)
from estimators.decomposition import _table_size, dit_measures, learned
from estimators.decomposition._atom_intervals import atom_interval, atoms_verdict
from estimators.decomposition._halves import mean_of_halves, widened
from estimators.decomposition.broja import solve_broja
from estimators.decomposition.gaussian_samples import _union_bias, fit_gaussian_pid
from estimators.decomposition.result import ATOMS, PID
from estimators.information._canonical import wilks_moments

ONLY_X1 = np.array([0.0, 0.5 * np.log(2.0), 0.0, 0.0])


def ends(found):
    return np.array([found.intervals[name] for name in ATOMS])


def holds(found, truth):
    low, high = ends(found).T
    return (low <= truth) & (truth <= high)


# --- Gaussian ---------------------------------------------------------------------------------


def test_intervals_hold_where_only_the_first_source_tells_of_the_target():
    inside = []
    for seed in range(12):
        x1, x2, e = np.random.default_rng(seed).normal(size=(3, 600, 1))
        found = fit_gaussian_pid(x1, x2, x1 + e)
        inside.append(holds(found, ONLY_X1))
        assert found.reliable
    assert np.sum(inside, axis=0).min() >= 11


def test_a_union_that_follows_the_informations_has_exactly_their_bias():
    """However few draws there are: the informations are control variates of known mean."""
    change = np.random.default_rng(0).normal(size=(8, 4))
    change[:, 3] = 2.0 * change[:, 0] - change[:, 2]
    (first, _), (both, _) = wilks_moments(1, 2, 50.0), wilks_moments(2, 2, 50.0)
    assert np.isclose(_union_bias(change, (1, 1, 2), 50.0), 2.0 * first - both, atol=1e-12)


def test_intervals_hold_along_a_chain_where_two_atoms_are_zero():
    """y - x1 - x2: neither unique_2 nor synergy, and x2 is a noisy copy."""
    inside = []
    for seed in range(10):
        x1, e, f = np.random.default_rng(seed).normal(size=(3, 600, 1))
        found = fit_gaussian_pid(x1, x1 + e, x1 + f)
        truth = [0.5 * np.log(4 / 3), 0.5 * np.log(3 / 2), 0.0, 0.0]
        inside.append(holds(found, truth))
    assert np.sum(inside, axis=0).min() >= 8


def test_the_union_of_a_tie_is_not_overstated():
    """Where both uniques are zero the intervals reach as far as the missed bias of the kink."""
    inside, kinks = [], []
    truth = pid_from_covariance(np.array([[2.0, 1, 1], [1, 2, 1], [1, 1, 1.5]]), (1, 1, 1)).atoms
    for seed in range(10):
        z, e, f, g = np.random.default_rng(seed).normal(size=(4, 400, 1))
        found = fit_gaussian_pid(z + e, z + f, z + 0.5**0.5 * g)
        inside.append(holds(found, list(truth.values())))
        kinks.append(found.diagnostics["kink_of_union"])
    assert np.sum(inside, axis=0).min() >= 8
    assert np.mean(kinks) > 0.002


def test_noise_that_is_not_gaussian_is_seen_under_a_near_copy():
    rng = np.random.default_rng(0)
    x1, x2 = rng.normal(size=(2, 1500, 1))
    found = fit_gaussian_pid(x1, x2, x1 + 0.01 * rng.uniform(-1, 1, size=(1500, 1)))
    assert not found.reliable
    assert "kurtosis of y[:, 0] given the sources" in found.reason
    fair = fit_gaussian_pid(x1, x2, x1 + 0.01 * rng.normal(size=(1500, 1)))
    assert fair.reliable


def test_a_product_of_columns_is_not_called_reliable():
    rng = np.random.default_rng(0)
    x1, x2 = rng.normal(size=(2, 1500, 5))
    y = np.c_[rng.normal(size=(1500, 3)), x1[:, 2] * x2[:, 4] + rng.normal(size=1500)]
    found = fit_gaussian_pid(x1, x2, y)
    assert not found.reliable
    assert "a product of two columns of the sources" in found.reason


def test_a_column_of_both_sources_is_refused_by_name():
    x1, x2, y = np.random.default_rng(0).normal(size=(3, 200, 2))
    x2[:, 1] = x1[:, 0]
    with pytest.raises(ValueError, match=r"column 3 of \(x1, x2\) is a linear combination"):
        fit_gaussian_pid(x1, x2, y)
    with pytest.raises(ValueError, match="the information is infinite"):
        fit_gaussian_pid(x1, x2[:, :1], np.c_[y, x1[:, 1]])


@settings(max_examples=30)
@given(
    st.integers(0, 10_000),
    st.integers(3, 40),
    st.tuples(*[st.integers(1, 3)] * 3),
    st.lists(
        st.sampled_from(["copy", "near copy", "constant", "huge", "tiny", "zero"]), max_size=2
    ),
)
def test_gaussian_pid_answers_or_refuses(seed, n, dims, faults):
    """Finite rows of valid shape give intervals at zero or above, or a refusal of ours."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, sum(dims)))
    for fault in faults:
        i, j = rng.integers(0, sum(dims), size=2)
        rows[:, i] = {
            "copy": rows[:, j],
            "near copy": rows[:, j] + 10.0 ** -rng.integers(1, 12) * rng.normal(size=n),
            "constant": np.full(n, 0.1),
            "huge": 1e300 * rng.uniform(-1, 1, size=n),
            "tiny": 1e-300 * rng.uniform(-1, 1, size=n),
            "zero": np.zeros(n),
        }[fault]
    a, b, _ = dims
    try:
        found = fit_gaussian_pid(rows[:, :a], rows[:, a : a + b], rows[:, a + b :], resamples=10)
    except np.linalg.LinAlgError:
        pytest.fail("a foreign error")
    except ValueError:
        return
    low, high = ends(found).T
    assert (low >= 0.0).all()
    assert (low <= high).all()
    assert np.isfinite(high).all()


@given(st.lists(st.integers(-12, 12), min_size=3, max_size=3))
def test_scales_of_the_covariance_do_not_matter(powers):
    scale = 10.0 ** np.array(powers)
    cov = np.array([[2.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1.0, 1.0, 1.0]])
    found = pid_from_covariance(cov * scale[:, None] * scale, (1, 1, 1), unit="bits")
    assert found.redundant == pytest.approx(0.5, abs=1e-6)


# --- samples and tables -----------------------------------------------------------------------


@settings(max_examples=8)
@given(
    st.integers(0, 10_000),
    st.integers(1, 60),
    st.tuples(*[st.integers(1, 4)] * 3),
    st.sampled_from(["broja", "imin", "mmi"]),
)
def test_intervals_of_samples_stay_within_what_is_possible(seed, n, sizes, measure):
    """No atom is negative; a unique atom is at most the entropy of its source, and so on."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(int(np.prod(sizes)), 0.3))
    table = rng.multinomial(n, p).reshape(sizes)
    found = pid_from_counts(table, measure=measure, resamples=20)
    x1, x2, y = np.log(sizes)
    low, high = ends(found).T
    assert (low >= 0.0).all()
    assert (low <= high).all()
    assert (high <= np.array([min(x1, x2, y), min(x1, y), min(x2, y), min(x1, x2, y)])).all()
    if n < 30:
        assert not found.reliable
        assert "draws are too few; at least 30" in found.reason


def test_wide_intervals_are_not_reliable():
    found = pid_from_counts([[[10, 2], [10, 2]], [[10, 2], [2, 10]]])
    widest = (np.diff(ends(found))[:, 0] / 2).max()
    assert widest > 0.1
    assert "nats is over 0.1" in found.reason


def test_the_plug_in_has_no_interval_and_is_never_reliable():
    table = np.full((2, 2, 2), 10_000)
    found = pid_from_counts(table, method="plugin")
    assert not found.reliable
    assert "use method='smooth-bootstrap'" in found.reason


def test_an_unseen_symbol_may_carry_information():
    """100 equal answers: the next answer may be another one."""
    table = np.zeros((2, 2, 2), dtype=int)
    table[:, :, 0] = 25
    high = ends(pid_from_counts(table))[:, 1]
    rare = 1 / 100
    entropy = -rare * np.log(rare) - (1 - rare) * np.log(1 - rare)
    assert high == pytest.approx(np.full(4, entropy), rel=0.05)


def test_whole_numbers_with_many_values_are_refused_before_a_table_is_made():
    """Under a limit of 3 GiB of address space; the tables asked for have gigabytes."""
    code = """
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        import numpy as np
        from estimators import pid, pid_from_counts, pid_from_pmf, unique_informations
        r = np.random.default_rng(0)
        g, e = r.normal(size=(2, 2000, 1))
        flat = np.full((1000, 1000, 1), 1e-6)
        for ask in (
            lambda: pid(np.arange(2000), r.permutation(2000), r.integers(0, 2, 2000)),
            lambda: pid(np.round(1000 * g), np.round(1000 * e), np.round(1000 * (g + e))),
            lambda: pid(np.arange(2000), np.arange(2000), np.arange(2000), method="plugin"),
            lambda: pid_from_pmf(flat),
            lambda: unique_informations(np.full((40, 40, 40, 2), 1 / 128000)),
            lambda: pid_from_counts(np.ones((300, 300, 2), dtype=int)),
            lambda: pid_from_counts(np.ones((8, 8, 8), dtype=int), resamples=10**7),
            lambda: pid_from_counts(np.ones((8, 8, 8), dtype=int), permutations=10**7),
        ):
            try:
                ask()
            except ValueError as refusal:
                print(refusal)
            else:
                print("ANSWERED")
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)},
    )
    lines = run.stdout.splitlines()
    assert len(lines) == 8, run.stderr
    assert all("too many symbols (x1 has" in line for line in (*lines[:3], lines[5]))
    assert all("is too large for BROJA" in line for line in lines[3:5])
    assert "resamples=10,000,000 tables of 512 cells are too large together" in lines[6]
    assert "permutations=10,000,000 tables" in lines[7]


def test_sixty_four_symbols_each_are_within_the_limits():
    _table_size.check_solver(64, 64, 64)
    _table_size.check_samples((32, 32, 32), 2000)
    with pytest.raises(ValueError, match=r"at most 32,768 are counted; merge rare symbols"):
        _table_size.check_samples((32, 32, 33), 2000)


def test_one_dense_side_is_refused_too():
    with pytest.raises(ValueError, match=r"2 x 2,000 x 1,000 symbols is too large for BROJA"):
        solve_broja(np.zeros((2, 2000, 1000)))


def test_a_measure_that_does_not_exist_is_named_without_dit(monkeypatch):
    monkeypatch.setattr("estimators.extras.installed", lambda package: False)
    p = np.full((2, 2, 2), 1 / 8)
    with pytest.raises(
        ValueError, match="unknown measure 'typo'; choose from broja, imin, mmi, ccs"
    ):
        pid_from_pmf(p, measure="typo")
    with pytest.raises(ValueError, match="unknown measure 'typo'"):
        pid_from_counts(np.ones((2, 2, 2), dtype=int), measure="typo")


def test_the_named_measures_are_those_of_dit():
    pytest.importorskip("dit")
    names = set(dit_measures.dit_measure_names())
    assert set(dit_measures.DIT_MEASURES) == names - {"ccs", "mmi"}


def test_unique_informations_of_a_narrow_table_are_answered():
    p = np.full((2, 2, 2, 2), 1 / 16)
    assert unique_informations(p) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)


# --- learned ----------------------------------------------------------------------------------


def test_codes_that_lose_information_widen_the_intervals():
    one = pid_from_counts(np.full((2, 2, 2), 100))
    both = mean_of_halves(one, one)
    plain, wide = widened(both, 0.0), widened(both, 0.05)
    for name in ATOMS:
        assert wide[name][1] == pytest.approx(plain[name][1] + 0.05)
        assert wide[name][0] == 0.0


@pytest.mark.slow
def test_a_redundant_pair_keeps_its_bit_in_the_interval(monkeypatch):
    """Two noisy views of one bit: codes misread each view by itself, which is not unique
    information."""
    monkeypatch.setattr(learned, "_RESTARTS", 1)
    rng = np.random.default_rng(0)
    bit = rng.integers(0, 2, size=600)
    x1, x2 = (2.5 * (2 * bit - 1)[:, None] + rng.normal(size=(600, 1)) for _ in range(2))
    found = pid(np.c_[x1, rng.normal(size=600)], np.c_[x2, rng.normal(size=600)], bit)
    # BROJA of two conditionally independent equal channels: all of I(x1; y) is redundant.
    grid = np.linspace(-8, 8, 4001)
    density = np.exp(-0.5 * (grid - 2.5) ** 2) / (2 * np.pi) ** 0.5
    posterior = 1 / (1 + np.exp(-5.0 * grid))
    information = np.log(2) + np.sum(density * np.log(posterior)) * (grid[1] - grid[0])
    low, high = found.intervals["redundant"]
    assert low <= information <= high
    assert found.intervals["unique_1"][0] == found.intervals["unique_2"][0] == 0.0


# --- intervals and verdict --------------------------------------------------------------------


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 2))
def test_atom_intervals_are_cut_and_ordered(value, below, above, most):
    low, high = atom_interval(value, below, above, most)
    assert 0.0 <= low <= high <= most
    if value >= 1.5 * below and value <= most:
        assert low == max(value - below, 0.0)
    if below > 0.0 and value < 1.5 * below:
        assert low == 0.0


def test_the_widest_atom_decides():
    narrow = {"redundant": (0.0, 0.1), "unique_1": (3.0, 3.5)}
    atoms = {"redundant": 0.05, "unique_1": 3.25}
    assert atoms_verdict(atoms, narrow) == (True, "")
    wide = {**narrow, "redundant": (0.0, 0.3)}
    assert atoms_verdict(atoms, wide) == (
        False,
        "redundant: half width 0.15 nats is over 0.1",
    )


def test_an_atom_outside_its_interval_is_said_to_be_noise():
    """Atoms are not cut, so that their sums are informations; their intervals are."""
    atoms = {"redundant": 0.1, "unique_1": 0.2, "unique_2": 0.0, "synergistic": -0.0012}
    cut = {name: (0.0, 0.3) for name in atoms}
    found = PID(**atoms, unit="nats", measure="broja", method="m", intervals=cut, level=0.95)
    assert "synergistic -0.0012 [0.0000, 0.3000]" in str(found)
    assert "synergistic: outside of the interval by noise of the estimate" in str(found)
    inside = replace(found, synergistic=0.001)
    assert "outside" not in str(inside)
