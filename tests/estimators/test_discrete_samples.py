"""Discrete measures from samples: corrections, intervals, permutation nulls."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import digamma, gammaln, polygamma
from scipy.stats import chi2_contingency, kstest

from estimators import discrete
from estimators.discrete import _null, _samples, _terms
from estimators.discrete.corrections import CORRECTIONS

METHODS = sorted(CORRECTIONS)
each_method = pytest.mark.parametrize("method", METHODS)
COUNTS = st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(any)


# --- the corrections ------------------------------------------------------------------------


def plain_grassberger(counts):
    """G by its recurrence: G_1 = -gamma - log 2, G_2 = 2 - gamma - log 2, then G_(2m+1) = G_2m and
    G_(2m+2) = G_2m + 2 / (2m + 1).
    """
    g = [0.0, -np.euler_gamma - math.log(2.0), 2.0 - np.euler_gamma - math.log(2.0)]
    while len(g) <= max(counts):
        m = len(g)
        g.append(g[m - 1] if m % 2 else g[m - 2] + 2.0 / (m - 1))
    n = sum(counts)
    return math.log(n) - sum(c * g[c] for c in counts) / n


def plain_chao_shen(counts):
    n = sum(counts)
    singletons = sum(c == 1 for c in counts)
    coverage = 1.0 - min(singletons, n - 1) / n
    total = 0.0
    for c in counts:
        q = coverage * c / n
        if q in (0.0, 1.0):
            continue
        total -= q * math.log(q) / (1.0 - (1.0 - q) ** n)
    return total


def plain_nsb(counts):
    """The two integrals of NSB over xi = psi(K beta + 1) - psi(beta + 1), by quadrature in beta."""
    n, k = np.array(counts, dtype=float), len(counts)

    def log_evidence(beta):
        total = k * beta
        cells = gammaln(n + beta) - gammaln(beta)
        return gammaln(total) - gammaln(n.sum() + total) + cells.sum()

    def mean(beta):
        alpha = n + beta
        return digamma(alpha.sum() + 1) - alpha @ digamma(alpha + 1) / alpha.sum()

    def weight(u):
        beta = math.exp(u)
        slope = k * polygamma(1, k * beta + 1) - polygamma(1, beta + 1)
        return math.exp(log_evidence(beta) - peak) * slope * beta

    grid = np.linspace(-20, 12, 200)
    peak = max(log_evidence(math.exp(u)) for u in grid)
    ends = {"a": -20, "b": 12, "limit": 400, "points": [-10, -5, -2, 0, 2, 5]}
    top = quad(lambda u: weight(u) * mean(math.exp(u)), **ends)[0]
    return top / quad(weight, **ends)[0]


@given(COUNTS)
def test_grassberger_is_its_recurrence(counts):
    assert discrete.entropy_counts(counts) == pytest.approx(plain_grassberger(counts), abs=1e-10)


@given(COUNTS)
def test_chao_shen_is_its_loop(counts):
    found = discrete.entropy_counts(counts, method="chao-shen")
    assert found == pytest.approx(plain_chao_shen(counts), abs=1e-10)


@pytest.mark.parametrize(
    "counts", [[4, 2, 1, 1], [10, 0, 0, 0, 0], [3, 3, 3], [1, 1, 1, 1, 0, 0], [50, 30, 20, 1]]
)
def test_nsb_is_its_integral(counts):
    found = discrete.entropy_counts(counts, method="nsb")
    assert found == pytest.approx(plain_nsb(counts), rel=1e-5)


@given(COUNTS)
def test_plugin_and_miller_madow_closed_forms(counts):
    p = np.array([c for c in counts if c]) / sum(counts)
    plugin = float(-(p * np.log(p)).sum())
    assert discrete.entropy_counts(counts, method="plugin") == pytest.approx(plugin, abs=1e-12)
    more = (p.size - 1) / (2 * sum(counts))
    found = discrete.entropy_counts(counts, method="miller-madow")
    assert found == pytest.approx(plugin + more, abs=1e-12)


@each_method
@given(counts=COUNTS, order=st.randoms(use_true_random=False))
def test_order_of_symbols_is_immaterial(method, counts, order):
    shuffled = list(counts)
    order.shuffle(shuffled)
    first = discrete.entropy_counts(counts, method=method)
    assert first == pytest.approx(discrete.entropy_counts(shuffled, method=method), abs=1e-10)


@each_method
def test_all_corrections_agree_in_large_samples(method):
    p = np.array([0.5, 0.25, 0.125, 0.125])
    counts = (p * 800_000).astype(int)
    assert discrete.entropy_counts(counts, method=method, unit="bits") == pytest.approx(
        1.75, abs=1e-4
    )


@pytest.mark.parametrize("method", ["miller-madow", "grassberger", "chao-shen", "nsb"])
def test_corrections_remove_most_of_the_bias(method):
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(30))
    truth = float(-(p * np.log(p)).sum())
    tables = rng.multinomial(120, p, size=150)
    bias = {
        name: abs(np.mean([discrete.entropy_counts(t, method=name) for t in tables]) - truth)
        for name in ("plugin", method)
    }
    assert bias[method] < 0.35 * bias["plugin"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: discrete.entropy_counts([2, -1]), r"counts\[1\] = -1; counts are whole numbers"),
        (lambda: discrete.entropy_counts([2, 0.5]), r"counts\[1\] = 0.5; counts are whole"),
        (lambda: discrete.entropy_counts([2, math.nan]), r"counts\[1\] = nan"),
        (lambda: discrete.entropy_counts([0, 0]), r"counts of shape \(2,\) counts nothing"),
        (lambda: discrete.entropy_counts([1], method="jack"), "unknown method 'jack'; choose from"),
        (lambda: discrete.entropy_counts([1, 1], alphabet=1), "2 symbols were observed but"),
        (lambda: discrete.entropy([]), r"x is empty, shape \(0,\)"),
        (lambda: discrete.entropy([0.5, 1.0]), r"x\[0\] = 0.5 is not a category; bin"),
        (lambda: discrete.entropy([0.0, math.inf]), r"x\[1\] = inf is not a category"),
        (lambda: discrete.entropy([[[1]]]), r"x must have shape \(n,\) or \(n, k\), got shape"),
        (lambda: discrete.entropy([{}]), "x must hold labels that can be hashed"),
        (lambda: discrete.entropy([1], level=1.0), "level must lie strictly between 0 and 1"),
        (lambda: discrete.entropy([0, 1], alphabet=1), "variable 0 has 2 symbols but"),
        (lambda: discrete.mutual_information([1], [1, 2]), "x has 1, y has 2"),
        (lambda: discrete.mutual_information([1], [1], permutations=-1), "at least 0, got -1"),
        (lambda: discrete.mutual_information([1], [1], alphabets=[2]), "2 variables but 1 alph"),
        (lambda: discrete.total_correlation([1]), "at least two variables are needed, got 1"),
        (lambda: discrete.shannon_invariants([1]), "sources and a target are needed, got 1"),
    ],
)
def test_bad_requests_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- measures from samples ------------------------------------------------------------------

SAMPLES = st.integers(0, 10_000).map(
    lambda seed: np.random.default_rng(seed).integers(0, (2, 3, 4), size=(60, 3))
)


@given(SAMPLES)
def test_plugin_of_samples_is_the_measure_of_their_pmf(rows):
    p = np.zeros((2, 3, 4))
    np.add.at(p, tuple(rows.T), 1.0 / len(rows))
    x, y, z = rows.T
    pairs = [
        (discrete.entropy(rows, method="plugin"), discrete.entropy_pmf(p)),
        (discrete.mutual_information(x, y, method="plugin"), discrete.mutual_information_pmf(p)),
        (
            discrete.mutual_information(rows[:, :2], z, method="plugin"),
            discrete.mutual_information_pmf(p, (0, 1), 2),
        ),
        (
            discrete.conditional_mutual_information(x, y, z, method="plugin"),
            discrete.conditional_mutual_information_pmf(p),
        ),
        (discrete.co_information(x, y, z, method="plugin"), discrete.co_information_pmf(p)),
        (discrete.total_correlation(x, y, z, method="plugin"), discrete.total_correlation_pmf(p)),
        (
            discrete.dual_total_correlation(x, y, z, method="plugin"),
            discrete.dual_total_correlation_pmf(p),
        ),
    ]
    for found, exact in pairs:
        assert found.value == pytest.approx(exact, abs=1e-10)
        assert found.diagnostics["plugin"] == pytest.approx(exact, abs=1e-10)
    r, v = discrete.shannon_invariants(x, y, z, method="plugin")
    exact = discrete.shannon_invariants_pmf(p)
    assert r.value == pytest.approx(exact.redundancy_degree, abs=1e-8)
    assert v.value == pytest.approx(exact.vulnerability_degree, abs=1e-8)


@each_method
@given(rows=SAMPLES)
def test_invariances(method, rows):
    x, y, z = rows.T
    one = discrete.conditional_mutual_information(x, y, z, method=method)
    names = np.array(["b", "a", "c"])[y]
    same = [
        discrete.conditional_mutual_information(y, x, z, method=method),
        discrete.conditional_mutual_information(x, names, z, method=method),
        discrete.conditional_mutual_information(*rows[::-1].T, method=method),
    ]
    for other in same:
        assert other.value == pytest.approx(one.value, abs=1e-9)
        assert other.interval == pytest.approx(one.interval, abs=1e-9)
    bits = discrete.conditional_mutual_information(x, y, z, method=method, unit="bits")
    assert bits.value * math.log(2.0) == pytest.approx(one.value, abs=1e-12)


def test_second_order_term_is_all_there_is_at_the_uniform_distribution():
    """2 n (log k - H) is chi-squared with k - 1 degrees of freedom: sd sqrt((k - 1) / 2) / n."""
    found = discrete.entropy([0, 1, 2] * 30, method="plugin", level=0.9)
    half = 1.6448536 * math.sqrt(2.0 / 2.0) / 90
    assert found.interval == pytest.approx((math.log(3.0) - half, math.log(3.0)), rel=1e-6)


def test_small_samples_are_called_unreliable():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 20, size=(2, 100))
    few = discrete.mutual_information(x, y)
    assert not few.reliable
    assert "more samples or fewer symbols" in few.reason
    assert discrete.mutual_information(x % 2, y % 2).reliable


def test_degrees_without_information_are_called_unreliable():
    x, y, z = np.random.default_rng(1).integers(0, 2, size=(3, 500))
    for found in discrete.shannon_invariants(x, y, z):
        assert not found.reliable
        assert "not clearly positive" in found.reason


# --- nulls ----------------------------------------------------------------------------------


def plain_null(codes, terms, shuffled, strata, permutations, rng):
    """One permutation after the other, counted by `numpy.unique`."""
    values = []
    for _ in range(permutations):
        copy = codes.copy()
        for j in shuffled:
            groups = _samples.joint_codes(codes, strata) if strata else np.zeros(len(codes), int)
            for group in np.unique(groups):
                rows = np.flatnonzero(groups == group)
                copy[rows, j] = rng.permutation(copy[rows, j])
        value = 0.0
        for c, axes in terms:
            _, counts = np.unique(copy[:, list(axes)], axis=0, return_counts=True)
            p = counts / len(codes)
            value -= c * float((p * np.log(p)).sum())
        values.append(value)
    return np.array(values)


@pytest.mark.parametrize(
    ("terms", "shuffled", "strata"),
    [
        (_terms.conditional_mutual_information_terms((0,), (1,)), (0,), ()),
        (_terms.conditional_mutual_information_terms((0,), (1,), (2,)), (0,), (2,)),
        (_terms.dual_total_correlation_terms(3), (1, 2), ()),
    ],
)
def test_vectorised_null_has_the_law_of_the_plain_one(terms, shuffled, strata):
    rows = np.random.default_rng(2).integers(0, (3, 4, 2), size=(70, 3))
    rows[:, 0] = (rows[:, 0] + rows[:, 2]) % 3
    rng = np.random.default_rng(0)
    fast = _null.permuted_values(
        rows, terms, shuffled=shuffled, strata=strata, permutations=1500, rng=rng
    )
    plain = plain_null(rows, terms, shuffled, strata, 400, rng)
    assert kstest(fast, plain).pvalue > 0.01


def test_strata_keep_what_is_given():
    """Permuting x among rows of equal z leaves the joint of x and z as it was."""
    rows = np.random.default_rng(4).integers(0, (3, 2, 4), size=(80, 3))
    rows[:, 0] = (rows[:, 0] + rows[:, 2]) % 3
    seen = discrete.entropy(rows[:, [0, 2]], method="plugin").value
    draws = {"permutations": 20, "rng": np.random.default_rng(0)}
    inside = _null.permuted_values(rows, ((1.0, (0, 2)),), shuffled=(0,), strata=(2,), **draws)
    across = _null.permuted_values(rows, ((1.0, (0, 2)),), shuffled=(0,), **draws)
    assert inside == pytest.approx(np.full(20, seen))
    assert across.std() > 0.0


def test_entropy_rows_is_entropy_of_each_row():
    rows = np.random.default_rng(0).integers(0, 5, size=(7, 40))
    found = _null.entropy_rows([rows])
    plain = [discrete.entropy_counts(np.bincount(row), method="plugin") for row in rows]
    assert found == pytest.approx(plain)


def test_null_blocks_do_not_change_how_many_there_are(monkeypatch):
    monkeypatch.setattr(_null, "_BLOCK", 200)
    x, y = np.random.default_rng(0).integers(0, 3, size=(2, 50))
    codes = np.stack([x, y], axis=1)
    terms = _terms.conditional_mutual_information_terms((0,), (1,))
    values = _null.permuted_values(
        codes, terms, shuffled=(0,), permutations=7, rng=np.random.default_rng(0)
    )
    assert values.shape == (7,)
    assert len(set(values.tolist())) > 1


def test_dependence_is_found():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, size=300)
    y = np.where(rng.random(300) < 0.4, x, rng.integers(0, 3, size=300))
    found = discrete.mutual_information(x, y, permutations=199)
    assert found.diagnostics["p_value"] == 1 / 200
    assert chi2_contingency(np.histogram2d(x, y, bins=3)[0]).pvalue < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["mi", "cmi", "tc", "co"])
def test_p_values_are_uniform_under_the_null(measure):
    p_values = []
    for seed in range(500):
        rng = np.random.default_rng([11, seed])
        x, y, z = rng.integers(0, (4, 5, 3), size=(150, 3)).T
        options = {"permutations": 199, "seed": seed}
        if measure == "mi":
            found = discrete.mutual_information(x, y, **options)
        elif measure == "cmi":  # both depend on z, and on each other through z alone
            found = discrete.conditional_mutual_information((x + z) % 4, (y + z) % 5, z, **options)
        elif measure == "tc":
            found = discrete.total_correlation(x, y, z, **options)
        else:
            found = discrete.co_information(x, (x + y) % 5, z, **options)
        p_values.append(found.diagnostics["p_value"])
    assert kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("method", ["miller-madow", "grassberger", "nsb"])
def test_intervals_cover(method):
    """90 % intervals of entropy and MI over generic systems; see also the docstrings."""
    inside = []
    for k, n in ((2, 500), (4, 500), (8, 2000)):
        for system in range(4):
            rng = np.random.default_rng([5, k, system])
            p = rng.dirichlet(np.full(k * k, 0.7)).reshape(k, k)
            truths = discrete.entropy_pmf(p), discrete.mutual_information_pmf(p)
            for _ in range(40):
                cells = rng.choice(k * k, size=n, p=p.ravel())
                found = (
                    discrete.entropy(cells, method=method, alphabet=k * k, level=0.9),
                    discrete.mutual_information(
                        cells // k, cells % k, method=method, alphabets=(k, k), level=0.9
                    ),
                )
                inside += [
                    e.interval[0] <= t <= e.interval[1] for e, t in zip(found, truths, strict=True)
                ]
    assert 0.85 <= np.mean(inside) <= 0.96
