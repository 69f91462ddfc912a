"""Labels and clusters from lists, arrays and data frames; missing ones are refused everywhere."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import estimators
from estimators import (
    CKAAccumulator,
    MeanAccumulator,
    SpectrumAccumulator,
    cluster_means,
    clustered_mean,
    clustered_ratio,
    conditional_mutual_information,
    discrete,
    effective_rank,
    entropy,
    linear_cka,
    matrix_entropy,
    mutual_information,
    profile_states,
    usable_information,
)
from estimators._labels import is_missing
from estimators._pmf import as_pmf
from estimators.clustered import cluster_codes, image_mean

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
Y = X + RNG.normal(size=(60, 2))
MISSING = [
    float("nan"),
    None,
    "",
    "  ",
    b"",
    "nan",
    "None",
    pd.NA,
    pd.NaT,
    np.datetime64("NaT"),
    Decimal("nan"),
    ("a", None),
]

TAKES_CLUSTERS = {
    "mutual_information": lambda c: mutual_information(X, Y, clusters=c),
    "conditional": lambda c: conditional_mutual_information(X, Y, X + Y, clusters=c),
    "entropy": lambda c: entropy(X, clusters=c),
    "usable_information": lambda c: usable_information(X, Y, method="linear", clusters=c),
    "linear_cka": lambda c: linear_cka(X, Y, clusters=c),
    "effective_rank": lambda c: effective_rank(X, clusters=c),
    "matrix_entropy": lambda c: matrix_entropy(X, clusters=c),
    "clustered_mean": lambda c: clustered_mean(X[:, 0], c),
    "clustered_ratio": lambda c: clustered_ratio(X[:, 0] ** 2, np.ones(len(X)), c),
    "cluster_means": lambda c: cluster_means(X[:, 0], c),
    "image_mean": lambda c: image_mean(X, c),
    "profile_states": lambda c: profile_states([X, Y], clusters=c),
    "CKAAccumulator": lambda c: CKAAccumulator().update(X, Y, c),
    "SpectrumAccumulator": lambda c: SpectrumAccumulator().update(X, c),
    "MeanAccumulator": lambda c: MeanAccumulator().update(X[:, 0], c),
}


@pytest.mark.parametrize("missing", MISSING, ids=repr)
def test_a_missing_cluster_is_refused_with_its_place(missing):
    assert is_missing(missing)
    labels = ["a.png"] * 3 + [missing] + ["b.png"]
    with pytest.raises(ValueError, match=r"clusters\[3\] is .*names no cluster"):
        cluster_codes(labels)


@pytest.mark.parametrize("name", TAKES_CLUSTERS)
@pytest.mark.parametrize("kind", ["nan", "series", "none"])
def test_every_function_refuses_missing_clusters(name, kind):
    labels = {
        "nan": np.full(60, np.nan),
        "series": pd.Series(["a.png", None] * 30),
        "none": [f"{i}.png" for i in range(59)] + [None],
    }[kind]
    with pytest.raises(ValueError, match="names no cluster"):
        TAKES_CLUSTERS[name](labels)


def test_zero_false_and_odd_text_are_clusters():
    assert cluster_codes([0, False, "0", "x", 1.5]).tolist() == [0, 0, 1, 2, 3]


@pytest.mark.parametrize("clusters", ["ab", {"a", "b"}, 2])
def test_what_is_no_list_of_labels_is_named(clusters):
    with pytest.raises(ValueError, match="one label for each row"):
        cluster_codes(clusters)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_every_container_gives_the_same_codes(ids):
    plain = cluster_codes(ids).tolist()
    names = [f"{i}.png" for i in ids]
    for same in (
        np.array(ids),
        torch.tensor(ids),
        pd.Series(ids, index=range(7, 7 + len(ids))),
        pd.Series(names),
        pd.Categorical(names),
        pd.Series(names).astype("category"),
        np.array(names),
    ):
        assert cluster_codes(same).tolist() == plain


WORDS = np.where(X[:, 0] > 0, "yes", "no")
LABELS = {
    "series": pd.Series(WORDS),
    "categorical": pd.Series(WORDS).astype("category"),
    "bare categorical": pd.Categorical(WORDS),
    "unused category": pd.Categorical(WORDS, categories=["no", "maybe", "yes"]),
    "nullable string": pd.Series(WORDS, dtype="string"),
    "object array": WORDS.astype(object),
    "numpy strings": WORDS.astype(np.dtypes.StringDType()),
    "boolean": WORDS == "yes",
    "nullable boolean": pd.Series(WORDS == "yes", dtype="boolean"),
    "nullable integer": pd.Series((WORDS == "yes").astype(int), dtype="Int64"),
    "tensor": torch.tensor(WORDS == "yes"),
    "mixed types": [1 if word == "no" else "yes" for word in WORDS],
    "text and number": ["1" if word == "yes" else 1 for word in WORDS],
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_every_kind_give_the_value_of_a_plain_list(kind):
    labels, plain = LABELS[kind], WORDS.tolist()
    usable = [usable_information(X, y, method="linear").value for y in (labels, plain)]
    assert usable[0] == pytest.approx(usable[1], rel=1e-4)
    assert mutual_information(X, labels).value == mutual_information(X, plain).value
    assert discrete.entropy(labels).value == discrete.entropy(plain).value
    assert discrete.mutual_information(labels, plain).value > 0.6
    pid = estimators.pid(labels, plain, labels)
    assert pid.atoms == estimators.pid(plain, plain, plain).atoms


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_a_missing_label_is_refused_with_its_place(missing):
    labels = pd.Series(["yes", "no", missing, "no"], dtype=object)
    with pytest.raises(ValueError, match=r"x\[2\] is .*, a missing value"):
        discrete.entropy(labels)
    with pytest.raises(ValueError, match=r"y\[2\] is .*, a missing value"):
        usable_information(X[:4], labels)


def test_rows_from_data_frames():
    frame = pd.DataFrame({"a": X[:, 0], "b": (100 * X[:, 1]).round().astype(int)})
    assert entropy(frame).value == entropy(frame.to_numpy()).value
    nullable = frame.convert_dtypes()
    assert entropy(nullable).value == pytest.approx(entropy(frame).value)
    with pytest.raises(ValueError, match="masked"):
        entropy(np.ma.masked_invalid(np.where(X > 2, np.nan, X)))


@pytest.mark.parametrize("size", [2, 7, 1000, 50_000])
def test_probabilities_in_single_precision(size):
    p = np.random.default_rng(size).random(size).astype(np.float32)
    p /= p.sum(dtype=np.float32)
    assert as_pmf(p).sum() == pytest.approx(1.0, abs=1e-12)
    softmax = torch.softmax(torch.randn(size, generator=torch.Generator().manual_seed(0)), 0)
    assert discrete.entropy_pmf(softmax) <= np.log(size)
    with pytest.raises(ValueError, match="must sum to one"):
        as_pmf((p * 1.01).astype(np.float32))
    with pytest.raises(ValueError, match="must sum to one"):
        as_pmf(p.astype(np.float64) * (1 + 1e-7))
