"""Rows from numpy or torch: what is taken, and the text of every refusal."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from estimators import (
    conditional_mutual_information,
    effective_rank,
    entropy,
    linear_cka,
    mutual_information,
    usable_information,
)
from estimators._arrays import (
    as_rows,
    duplicated_rows,
    duplicates_reason,
    paired,
    same_device,
)
from estimators._reliability import verdict

#: Verbs of rows, called with three arrays.
VERBS = {
    "mutual_information": lambda x, y, z: mutual_information(x, y),
    "ksg": lambda x, y, z: mutual_information(x[:, :1], y, method="ksg1"),
    "conditional": conditional_mutual_information,
    "entropy": lambda x, y, z: entropy(x),
    "usable_information": lambda x, y, z: usable_information(x, y),
    "labels": lambda x, y, z: usable_information(x, (y[:, 0] > 0).long()),
    "linear_cka": lambda x, y, z: linear_cka(x, y),
    "effective_rank": lambda x, y, z: effective_rank(x),
}
GOOD = np.arange(12.0).reshape(6, 2)


class OnCuda:
    """As much of a tensor on another device as a machine without one can show."""

    def __init__(self, device="cuda:0"):
        self.device = device

    def detach(self):
        return self


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float16", "float32", "bool"])
def test_any_real_dtype_becomes_float64(dtype):
    raw = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype)
    rows = as_rows(raw)
    assert rows.dtype == np.float64
    assert rows.tolist() == [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_tensors_of_any_floating_dtype(dtype):
    tensor = torch.tensor(GOOD / 8.0, dtype=dtype, requires_grad=True)
    np.testing.assert_array_equal(as_rows(tensor), GOOD / 8.0)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_halves_as_it_takes_floats(verb):
    rng = torch.Generator().manual_seed(0)
    x, y, z = (torch.randn(60, 2, generator=rng).to(torch.bfloat16) for _ in range(3))
    assert VERBS[verb](x, y, z).value == VERBS[verb](x.float(), y.float(), z.float()).value


def test_integer_tensor_and_nested_lists():
    assert as_rows(torch.tensor([[1, 2], [3, 5]])).tolist() == [[1.0, 2.0], [3.0, 5.0]]
    assert as_rows([[1, 2], [3, 5]]).tolist() == [[1.0, 2.0], [3.0, 5.0]]


def test_rows_are_a_copy_in_c_order_where_the_input_is_not():
    rows = as_rows(np.asfortranarray(GOOD)[::2])
    assert rows.flags.c_contiguous
    np.testing.assert_array_equal(rows, GOOD[::2])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [1.0, 2.0, 3.0],
            "h must have shape (n, d), got (3,): one variable is h[:, None], one row h[None]",
        ),
        (3.0, "h must have shape (n, d), got ()"),
        (np.zeros((2, 3, 4)), "h must have shape (n, d), got (2, 3, 4)"),
        (np.zeros((0, 3)), "h is empty, shape (0, 3); give at least one row and column"),
        (np.zeros((3, 0)), "h is empty, shape (3, 0); give at least one row and column"),
        (
            np.array([[1, None], [2, 3]], dtype=object),
            "h has dtype object (rows of different length, or mixed types); "
            "give one rectangular array of numbers",
        ),
        (np.array([["a", "b"]]), "h must hold real numbers, got dtype <U1"),
        (np.array([[1j, 2.0]]), "h must hold real numbers, got dtype complex128"),
        (torch.ones(2, 2) * 1j, "h must hold real numbers, got dtype torch.complex64"),
        (np.array([[1.0, 2.0], [3.0, math.nan]]), "h[1, 1] is nan; all of h must be finite"),
        (np.array([[1.0, -math.inf], [3.0, 4.0]]), "h[0, 1] is -inf; all of h must be finite"),
        (torch.tensor([[1.0], [math.inf]]), "h[1, 0] is inf; all of h must be finite"),
        (
            np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]),
            "column 1 of h is constant (5): it carries no information and has no scale; drop it",
        ),
        (
            np.array([[7.0, 5.0, 1.0], [7.0, 5.0, 2.0]]),
            "column 0 of h and 1 more is constant (7): "
            "it carries no information and has no scale; drop it",
        ),
    ],
)
def test_refusals_say_what_was_passed(values, message):
    with pytest.raises(ValueError, match="h ") as caught:
        as_rows(values, "h")
    assert str(caught.value) == message


def test_ragged_lists_are_refused():
    with pytest.raises(ValueError, match=r"h is no array: .*inhomogeneous"):
        as_rows([[1.0, 2.0], [3.0]], "h")


def test_constant_columns_may_be_kept():
    rows = np.array([[1.0, 5.0], [2.0, 5.0]])
    np.testing.assert_array_equal(as_rows(rows, constant="keep"), rows)


@given(st.integers(0, 5), st.integers(0, 1), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_the_first_bad_number_is_named(row, column, bad):
    rows = GOOD.copy()
    rows[row, column] = bad
    rows[5, 1] = math.nan if (row, column) != (5, 1) else bad
    with pytest.raises(ValueError, match=rf"^x\[{row}, {column}\] is {bad}; "):
        as_rows(rows)


def test_lengths_must_agree():
    assert paired(x=GOOD, y=GOOD[:, :1]) == 6
    with pytest.raises(ValueError, match="equal numbers of rows: x has 6, y has 4, z has 6"):
        paired(x=GOOD, y=GOOD[:4], z=GOOD)


def test_devices_must_agree():
    same_device(x=GOOD, y=torch.tensor(GOOD), z=None)
    same_device(x=OnCuda(), y=OnCuda("cuda:1"))
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        same_device(x=OnCuda(), y=torch.tensor(GOOD))
    assert str(caught.value) == (
        "arrays lie on different devices (x is on cuda:0, y is on cpu); move them to one device"
    )


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_share_of_rows_that_repeat(ids):
    rows = np.array(ids, dtype=float)[:, None] * np.ones((1, 3))
    assert duplicated_rows(rows) == pytest.approx(1.0 - len(set(ids)) / len(ids), abs=1e-12)


def test_repeated_rows_are_told():
    assert duplicates_reason(np.arange(100.0)[:, None], "x") == ""
    assert duplicates_reason(np.repeat(np.arange(50.0), 2)[:, None], "x") == (
        "50% of the rows of x repeat an earlier one, so it is not continuous or its rows are "
        "not independent (pass clusters=)"
    )


@given(st.floats(-5, 5), st.floats(0, 2))
def test_reliable_means_narrow(value, half):
    most = max(0.1, 0.1 * abs(value))
    reliable, reason = verdict(value, (value - half, value + half))
    if abs(half - most) > 1e-9:
        assert reliable == (half < most)
    assert reliable != bool(reason)


def test_a_failed_check_is_never_reliable():
    assert verdict(1.0, (1.0, 1.0), ["tails", "", "scale"]) == (False, "tails; scale")
    assert verdict(math.nan, (math.nan, math.nan))[1] == "no value could be computed"
    assert not verdict(0.0, (-math.inf, math.inf))[0]
