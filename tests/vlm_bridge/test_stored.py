"""Parts as they are shipped: 8-bit matrices are off by at most half a step of their row."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vlm_bridge.reference.stored import from_stored, to_stored

matrices = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 5)),
    elements=st.floats(-1e4, 1e4, width=32),
)


@given(matrices)
def test_a_row_is_off_by_half_a_step(matrix):
    part = torch.from_numpy(matrix)
    stored = to_stored({"w": part, "bias": part[0]}, "int8")
    assert stored["w"].dtype == torch.int8
    again = from_stored(stored)
    step = part.abs().amax(1, keepdim=True) / 127
    assert ((again["w"] - part).abs() <= step * 0.5001 + 1e-30).all()
    torch.testing.assert_close(again["bias"], part[0], rtol=1e-3, atol=1e-6)
    assert set(again) == {"w", "bias"}


@given(matrices)
def test_storing_again_changes_nothing(matrix):
    once = from_stored(to_stored({"w": torch.from_numpy(matrix)}, "int8"))
    twice = from_stored(to_stored(once, "int8"))
    torch.testing.assert_close(once["w"], twice["w"], rtol=1e-6, atol=0)


def test_what_is_kept_is_bfloat16_in_both_kinds():
    parts = {"tower.w": torch.randn(3, 3), "lora.w": torch.randn(3, 3)}
    stored = to_stored(parts, "int8", keep="tower.")
    assert stored["tower.w"].dtype == torch.bfloat16
    assert stored["lora.w"].dtype == torch.int8
    rounded = {name: part.to(torch.bfloat16) for name, part in parts.items()}
    whole = to_stored(parts, "bfloat16")
    assert all(torch.equal(whole[name], rounded[name]) for name in parts)
    assert torch.equal(from_stored(stored)["tower.w"], rounded["tower.w"].float())


def test_convolutions_keep_their_shape():
    part = torch.randn(4, 3, 2, 2)
    again = from_stored(to_stored({"w": part}, "int8"))["w"]
    assert again.shape == part.shape
    assert (again - part).abs().max() < part.abs().max() / 200
