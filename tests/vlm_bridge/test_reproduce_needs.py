"""What is known of large models, and what a run on them needs."""

from __future__ import annotations

import pytest

from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.reproduce import PUBLISHED, find_published, needs_of


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_orders_name_layers_once(name: str) -> None:
    model = PUBLISHED[name]
    assert len(set(model.shortv_order)) == len(model.shortv_order)
    assert set(model.shortv_order) <= set(range(model.n_layers))
    assert bool(model.shortv_order) == bool(model.shortv_source)
    assert model.vtw_depth is None or 0 < model.vtw_depth < model.n_layers
    assert (model.vtw_eta is not None) == bool(model.vtw_source)


def test_memory_and_time_follow_from_size() -> None:
    model = find_published("llava-1.5-7b")
    one, two = needs_of(model, forward_cost=1000), needs_of(model, forward_cost=2000, tflops=200)
    assert two.hours == pytest.approx(one.hours)
    assert two.pflop == pytest.approx(2 * one.pflop)
    assert one.pflop == pytest.approx(2 * 7.06e9 * 640 * 1000 / 1e15)
    assert needs_of(model, forward_cost=1, dtype="float32").gib == pytest.approx(2 * one.gib)
    assert "16 GiB of device memory" in str(one)


def test_what_is_said_of_bad_input() -> None:
    with pytest.raises(BridgeError, match=r"no published results for 'gpt'; choose from llava-1"):
        find_published("gpt")
    model = find_published("llava-1.5-7b")
    with pytest.raises(BridgeError, match="unknown dtype 'int4'"):
        needs_of(model, forward_cost=1, dtype="int4")
    with pytest.raises(BridgeError, match="must be positive, got 0 and 100"):
        needs_of(model, forward_cost=0)
