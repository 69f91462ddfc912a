import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from estimators import betting_upper_bound
from theory import Certificate, certify_drop, certify_mean, images_needed, label_free_drop
from theory.certificates import images_at_best, what_it_takes

METHODS = ("betting", "clopper-pearson", "empirical-bernstein", "hoeffding", "hoeffding-bentkus")


def certify(values, clusters=None, **options):
    settings = {"quantity": "disagreement", "epsilon": 0.02, "delta": 0.05, **options}
    return certify_mean(values, range(len(values)) if clusters is None else clusters, **settings)


def test_zero_disagreements_certify_with_the_promised_number_of_images():
    for epsilon in (0.01, 0.02, 0.05):
        n = images_needed(epsilon, 0.05)
        options = {"epsilon": epsilon, "method": "clopper-pearson"}
        assert certify(np.zeros(n), **options).holds
        assert not certify(np.zeros(n - 1), **options).holds


def test_hoeffding_certifies_a_drop_with_the_promised_number_of_images():
    n = images_needed(0.02, 0.05, method="hoeffding")
    options = {"quantity": "accuracy_drop", "method": "hoeffding"}
    assert certify(np.zeros(n), **options).holds
    assert not certify(np.zeros(n - 1), **options).holds


def test_what_was_observed_is_a_drop_or_a_rate():
    """A drop of a score is no rate; a label-free certificate observed changed answers."""
    of = {"epsilon": 0.02, "delta": 0.05}
    for lost, needs in ((6, "no number of images"), (1, "images would certify epsilon 0.02")):
        values = [0.0] * (100 - lost) + [1.0] * lost
        changed = certify_mean(values, range(100), quantity="disagreement", **of)
        drop = certify_drop(values, values, range(100), method="betting", **of)
        for made, word in ((changed, "rate"), (label_free_drop(changed), "rate"), (drop, "drop")):
            said = what_it_takes(made)
            assert said.startswith(f"at the observed {word} of {lost} %")
            assert needs in said


def test_what_a_failed_drop_would_take_is_counted_in_its_range():
    """The bound of a drop in [-1, 1] is twice that of [0, 1]: four times the images."""
    n = images_needed(0.1, 0.05, method="hoeffding")
    assert images_at_best(0.1, 0.05, "hoeffding", "accuracy_drop") == n
    options = {"quantity": "accuracy_drop", "epsilon": 0.1}
    for method in ("hoeffding", "betting", "harm"):
        failed = certify(np.zeros(20), method=method, **options)
        words = what_it_takes(failed)
        n = int(words.split("; ")[1].split(" images")[0].replace(",", ""))
        assert certify(np.zeros(n), method=method, **options).holds
        assert not certify(np.zeros(n - 1), method=method, **options).holds
    with pytest.raises(ValueError, match="unknown quantity 'drop'"):
        images_at_best(0.1, 0.05, "hoeffding", "drop")


def test_reference_of_nine_disagreements_among_500_images():
    values = np.r_[np.ones(9), np.zeros(491)]
    exact = certify(values, method="clopper-pearson")
    assert exact.bound == pytest.approx(stats.beta.ppf(0.95, 10, 491))
    assert exact.bound == pytest.approx(0.031, abs=5e-4)
    assert exact.estimate == pytest.approx(0.018)
    spread = [certify(values, seed=seed).bound for seed in range(30)]
    assert 0.029 < np.mean(spread) < 0.038


@pytest.mark.parametrize("method", METHODS)
def test_all_disagree(method):
    one = certify(np.ones(50), method=method)
    assert (one.bound, one.holds, one.estimate) == (1.0, False, 1.0)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 9)), min_size=1, max_size=60),
    st.sampled_from(METHODS),
    st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_the_bound_is_above_the_estimate_and_repeatable(pairs, method, seed):
    values, clusters = [v for v, _ in pairs], [c for _, c in pairs]
    one = certify(values, clusters, method=method, seed=seed)
    assert one.estimate <= one.bound <= 1.0
    assert one.n_images == len(set(clusters))
    assert one == certify(values, clusters, method=method, seed=seed)
    assert Certificate.from_json(json.loads(json.dumps(one.to_json(), allow_nan=False))) == one


def test_images_and_not_questions_are_counted():
    # 10 questions per image that all agree say no more than one.
    values, clusters = np.repeat([1.0, *[0.0] * 99], 10), np.repeat(np.arange(100), 10)
    for method in METHODS:
        tied = certify(values, clusters, method=method)
        alone = certify(values[::10], clusters[::10], method=method)
        assert tied.bound == alone.bound
        assert tied.n_images == 100


def test_betting_uses_image_means_in_a_seeded_order():
    rng = np.random.default_rng(0)
    values, clusters = rng.integers(0, 2, 300).astype(float), np.repeat(np.arange(60), 5)
    order = np.random.default_rng(4).permutation(60)
    means = values.reshape(60, 5).mean(axis=1)[order]
    expected = betting_upper_bound(means, delta=0.05)
    assert certify(values, clusters, seed=4).bound == expected


def test_hoeffding_formula_for_a_paired_drop():
    rng = np.random.default_rng(0)
    drop = rng.integers(-1, 2, 400).astype(float)
    one = certify(drop, np.repeat(np.arange(100), 4), quantity="accuracy_drop", method="hoeffding")
    width = 2 * math.sqrt(math.log(20) / 200)
    assert one.bound == pytest.approx(drop.mean() + width)


@pytest.mark.parametrize(("one", "share"), [(1.0, 0.25), (0.0, 0.75)])
def test_clopper_pearson_draws_every_value_equally_often(one, share):
    # Each image has one value that differs from the other 3: it is drawn in 1 of 4 images.
    values = np.tile([one, 1.0 - one, 1.0 - one, 1.0 - one], 400)
    clusters = np.repeat(np.arange(400), 4)
    draws = [
        certify(values, clusters, method="clopper-pearson", seed=s).estimate for s in range(20)
    ]
    assert np.mean(draws) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_certificates_fail_no_more_often_than_promised_with_alike_questions(method):
    # Per-image rates from a beta with intra-image correlation 1 / (1 + 2) = .33.
    rng = np.random.default_rng(5)
    delta, trials, truth = 0.1, 250, 0.1
    clusters = np.repeat(np.arange(60), 8)
    misses = 0
    for _ in range(trials):
        rates = rng.beta(2 * truth, 2 * (1 - truth), 60)
        values = (rng.random(480) < np.repeat(rates, 8)).astype(float)
        misses += certify(values, clusters, method=method, delta=delta).bound < truth
    assert misses <= stats.binom.ppf(0.999, trials, delta)


@pytest.mark.parametrize("method", ["betting", "hoeffding"])
def test_drop_certificates_fail_no_more_often_than_promised(method):
    rng = np.random.default_rng(6)
    delta, trials = 0.1, 250
    misses = 0
    for _ in range(trials):
        drop = rng.choice([-1.0, 0.0, 1.0], 80, p=[0.02, 0.9, 0.08])
        options = {"quantity": "accuracy_drop", "method": method, "delta": delta}
        misses += certify(drop, **options).bound < 0.06
    assert misses <= stats.binom.ppf(0.999, trials, delta)


def test_betting_certifies_a_drop_far_sooner_than_hoeffding():
    drop = np.random.default_rng(0).permutation([1.0, -1.0] * 2 + [0.0] * 1496)
    assert certify(drop, quantity="accuracy_drop").holds
    assert not certify(drop, quantity="accuracy_drop", method="hoeffding").holds


def test_the_sentence_says_what_holds_and_what_does_not():
    one = Certificate("accuracy_drop", 0.02, 0.05, 700, 0.01861, True, 0.01, "betting", (), ())
    assert str(one) == (
        "accuracy drop <= 0.0187 with probability 95 % (700 images, betting): holds at epsilon "
        "0.02; assuming these 700 images were not used before"
    )
    other = dataclasses.replace(one, epsilon=0.01, holds=False)
    assert "does NOT hold at epsilon 0.01; assuming these 700 images" in other.sentence()
    listed = dataclasses.replace(one, ledger="by the ledger", caveats=("the plan is old",))
    assert str(listed).endswith("holds at epsilon 0.02; the plan is old; by the ledger")


def test_it_records_what_was_checked_and_assumed():
    one = certify(np.zeros(50), seed=9, data_hash="d", plan_hash="p", method="clopper-pearson")
    assert one.checked == (
        "every value lies in [0, 1]",
        "one value drawn from each of 50 images with seed 9",
    )
    assert "the plan was chosen without these images" in one.assumed
    assert (one.data_hash, one.plan_hash) == ("d", "p")


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "values is empty"),
        ([0.0], {"quantity": "loss"}, "unknown quantity 'loss'; choose from disagreement"),
        ([0.0], {"method": "t"}, "unknown method 't'; choose from anytime"),
        (
            [0.0],
            {"quantity": "accuracy_drop", "method": "clopper-pearson"},
            r"cannot bound a accuracy_drop; use harm \(asked once per image\), betting",
        ),
        ([0.0], {"epsilon": 1.0}, "epsilon must lie strictly between 0 and 1, got 1.0"),
        ([0.0], {"delta": 0.0}, "delta must lie strictly between 0 and 1, got 0.0"),
        ([0.0, -1.0], {}, r"values\[1\] is -1; a disagreement lies in \[0, 1\]"),
        ([0.0, 1.5], {"quantity": "accuracy_drop"}, r"values\[1\] is 1.5; .* in \[-1, 1\]"),
        ([0.0, 0.5], {"method": "clopper-pearson"}, r"values\[1\] is 0.5; clopper-pearson needs"),
        ([0.0, math.nan], {}, r"values\[1\] is nan"),
        ([0.0, 1.0], {"clusters": ["a"]}, "2 values but 1 cluster labels"),
    ],
)
def test_bad_input_is_named(values, options, message):
    with pytest.raises(ValueError, match=message):
        certify(values, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"holds": True}, "holds=True contradicts bound"),
        ({"n_images": 0}, "at least one image, got 0"),
        ({"schema_version": 1}, "schema version 1; this code reads version 4"),
        ({"type": "Estimate"}, "not of type Certificate"),
    ],
)
def test_json_that_contradicts_itself_is_refused(change, message):
    data = {**certify(np.ones(20)).to_json(), **change}
    with pytest.raises(ValueError, match=message):
        Certificate.from_json(data)


@pytest.mark.parametrize("word", ["image", "recording", "text"])
def test_every_sentence_names_the_units(word):
    values, of = [0.0] * 40 + [1.0], {"epsilon": 0.02, "delta": 0.05, "unit_word": word}
    doubled, labels = np.repeat(values, 2), np.repeat(range(41), 2)
    made = [
        certify_mean(values, range(41), quantity="disagreement", **of),
        certify_mean(doubled, labels, quantity="disagreement", **of),
        certify_drop(values, values, range(41), **of),
        certify_drop(doubled, doubled, labels, **of),
    ]
    made.append(label_free_drop(made[0]))
    others = {"image", "recording", "text"} - {word}
    for one in made:
        said = " ".join([one.sentence(), what_it_takes(one), *one.checked, *one.assumed])
        assert f"41 {word}s" in one.sentence()
        assert f"the {word}s are independent draws" in said
        assert f"these 41 {word}s were not used before" in said
        assert not any(f" {other}" in said for other in others)
