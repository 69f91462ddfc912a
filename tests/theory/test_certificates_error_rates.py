"""Monte Carlo of every certificate on clustered data: errors at most delta, power printed."""

from __future__ import annotations

import pytest

from benchmarks.certificates import (
    CORRELATIONS,
    DELTA,
    NOT_VALID,
    family_rows,
    most_misses,
    rows,
)

RUNS = 2000
IMAGES = 1000


@pytest.fixture(scope="module")
def table():
    return list(rows(RUNS, IMAGES, seed=0))


@pytest.mark.slow
def test_no_certificate_is_wrong_more_often_than_promised(table):
    valid = [row for row in table if row.method not in NOT_VALID]
    assert {(row.truth, row.correlation) for row in valid} == {
        (truth, correlation)
        for truth in ("inside", "at", "outside")
        for correlation in CORRELATIONS
    }
    assert {row.method for row in valid} >= {
        "clopper-pearson", "hoeffding-bentkus", "betting", "empirical-bernstein", "hoeffding",
        "harm", "label-free clopper-pearson",
    }  # fmt: skip
    for row in valid:
        assert row.missed <= most_misses(RUNS), row
        if row.truth == "outside":
            assert row.certified <= most_misses(RUNS), row


@pytest.mark.slow
def test_question_level_clopper_pearson_fails_where_questions_go_together(table):
    pooled = {
        (row.truth, row.correlation): row.missed for row in table if row.method == NOT_VALID[0]
    }
    assert all(pooled["at", rho] > most_misses(RUNS) for rho in (0.1, 0.3))
    assert pooled["at", 0.3] > 0.15
    assert pooled["at", 0.0] <= most_misses(RUNS)


@pytest.mark.slow
def test_power(table, capsys):
    inside = {
        (row.quantity, row.method): row.certified
        for row in table
        if row.truth == "inside" and row.correlation == 0.3
    }
    with capsys.disabled():
        for (quantity, method), power in inside.items():
            print(f"power {quantity} {method}: {power:.3f}")  # noqa: T201
    assert inside["disagreement", "clopper-pearson"] == pytest.approx(0.79, abs=0.04)
    assert inside["disagreement", "hoeffding"] == 0
    assert inside["accuracy_drop", "harm"] > 0.98


@pytest.mark.slow
def test_families_keep_their_promise():
    for family in family_rows(RUNS, IMAGES, seed=0):
        assert family["wrong_certificate"] <= most_misses(RUNS, DELTA), family
        assert family["certified_of_safe"] > 0.9


def test_the_simulation_notices_a_certificate_that_is_too_eager():
    found = list(rows(300, 100, seed=1))
    pooled = [row for row in found if row.method == NOT_VALID[0] and row.correlation == 0.3]
    assert max(row.missed for row in pooled) > most_misses(300)
