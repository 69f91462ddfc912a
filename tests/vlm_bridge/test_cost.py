"""Costs: FLOPs against closed forms, bytes against tensors counted by hand, paired timing."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import DynamicCache

from tests.vlm_bridge.tiny import batch, tiny_llava
from vlm_bridge.cost import cache_bytes, cost_of_inputs, count_flops, measure_cost, peak_bytes
from vlm_bridge.cost.phase import PhaseCost, median_estimate
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.skip_plan import SkipPlan

CPU = torch.device("cpu")
NOTHING = SkipPlan("block", 4)
EXIT = SkipPlan("early_exit", 4, exit=2)


def test_flops_of_attention_on_the_cpu_are_counted(items):
    """torch's own counter says zero for sdpa on a CPU."""
    counts = {}
    for attention in ("sdpa", "eager"):
        vlm = tiny_llava(attention=attention)
        prefill = measure_cost(vlm, items, NOTHING, pairs=1).prefill
        counts[attention] = prefill.flops_full
        assert prefill.flops_ratio == 1
    assert counts["sdpa"] == counts["eager"]


@pytest.mark.parametrize(("m", "k", "n"), [(3, 5, 7), (1, 1, 1), (8, 2, 4)])
def test_flops_of_a_matrix_product(m, k, n):
    a, b = torch.ones(m, k), torch.ones(k, n)
    assert count_flops(lambda: a @ b) == 2 * m * k * n


@pytest.mark.parametrize(
    ("plan", "less"),
    [
        (SkipPlan("block", 4, layers=(0, 1)), True),
        (SkipPlan("freeze", 4, layers=(0, 1, 2, 3)), True),
        (EXIT, True),
        (SkipPlan("late_entry", 4, entry=2), True),
        (SkipPlan("early_exit", 4, exit=4), False),
    ],
    ids=lambda p: p.mode if isinstance(p, SkipPlan) else "",
)
def test_a_skip_costs_fewer_flops(items, plan, less):
    cost = measure_cost(tiny_llava(), items[:3], plan, pairs=6)
    assert (cost.prefill.flops_ratio < 1) == less
    low, high = cost.prefill.latency_ratio.interval
    assert low <= cost.prefill.latency_ratio.value <= high
    body = json.loads(json.dumps(cost.to_json()))
    assert body["prefill"]["flops_ratio"] == cost.prefill.flops_ratio
    assert body["prefill"]["efficiency"] == pytest.approx(cost.prefill.efficiency)


def test_bytes_of_a_cache():
    cache = DynamicCache()
    cache.update(torch.ones(2, 3, 5, 4), torch.ones(2, 3, 5, 4), 0)
    cache.update(torch.ones(2, 3, 1, 4), torch.ones(2, 3, 1, 4), 1)
    assert cache_bytes(cache) == 4 * 2 * (2 * 3 * 5 * 4 + 2 * 3 * 1 * 4)


def test_an_early_exit_stores_the_text_only():
    """Bytes by hand: 2 (k, v) x 4 bytes x 2 heads x 8 wide x tokens x layers."""
    vlm, inputs = tiny_llava(), batch("single")
    length = inputs["input_ids"].shape[1]
    text = length - int((inputs["input_ids"] == 3).sum())
    cost = cost_of_inputs(vlm, inputs, EXIT, pairs=1)
    assert cost.kv_bytes_full == 2 * 4 * 2 * 8 * length * 4
    assert cost.kv_bytes_skipped == 2 * 4 * 2 * 8 * (length * 2 + text * 2)
    assert cost.kv_ratio == cost.kv_bytes_skipped / cost.kv_bytes_full
    assert cost.length == length
    assert cost.dtype == "float32"


def test_peak_bytes_counts_what_lives_at_once():
    def run():
        a = torch.ones(1000)
        b = a + a
        del a
        c = b.view(10, 100)  # no bytes of its own
        return (c * 2).sum()

    assert peak_bytes(run, CPU) == 8000 + 4


def test_peak_bytes_leaves_weights_and_inputs_out():
    weight = torch.ones(1000, 10)
    assert peak_bytes(lambda: weight.t(), CPU) == 0
    assert peak_bytes(lambda: weight[0] + 1, CPU) == 40


def test_decoding_is_measured_per_token():
    vlm, inputs = tiny_llava(), batch("padded")
    plan = SkipPlan("block", 4, layers=(1, 2))
    cost = cost_of_inputs(vlm, inputs, plan, pairs=6, tokens=3)
    assert cost.decode is not None
    assert 0 < cost.decode.flops_skipped < cost.decode.flops_full < cost.prefill.flops_full
    assert cost.decode.latency_ratio.n == 6
    # Half of the layers are gone; the head and nothing else stays.
    per_layer = cost.decode.flops_full - cost.decode.flops_skipped
    assert 2 * per_layer < cost.decode.flops_full
    assert cost_of_inputs(vlm, inputs, plan, pairs=1).decode is None


def test_a_plan_that_skips_nothing_costs_the_same():
    cost = cost_of_inputs(tiny_llava(), batch("ragged"), NOTHING, pairs=1, tokens=2)
    assert cost.prefill.flops_ratio == 1
    assert cost.decode is not None
    assert cost.decode.flops_ratio == 1
    assert cost.kv_ratio == 1
    assert cost.peak_ratio == pytest.approx(1, abs=0.01)


def test_efficiency_is_the_quotient_of_the_ratios():
    phase = PhaseCost(100, 50, 1.0, 0.6, median_estimate([0.625] * 7))
    assert phase.flops_ratio == 0.5
    assert phase.efficiency == 0.8


def test_few_pairs_are_called_unreliable():
    assert not median_estimate([1.0] * 5).reliable
    assert median_estimate([1.0] * 6).reliable


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": 0}, "a cost needs at least one timed pair, got pairs=0"),
        ({"tokens": 1}, "tokens is 0 or 2 up, got 1"),
        ({"tokens": -2}, "tokens is 0 or 2 up, got -2"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(BridgeError, match=message):
        cost_of_inputs(tiny_llava(), batch("single"), EXIT, **options)


def test_a_refused_plan_is_refused_before_anything_runs(monkeypatch):
    vlm = tiny_llava()
    vlm.layout.text_config._attn_implementation = "flex_attention"
    monkeypatch.setattr(vlm.model, "forward", None)
    with pytest.raises(BridgeError, match="early_exit is refused: attention 'flex_attention'"):
        cost_of_inputs(vlm, batch("single"), EXIT)
