"""Nothing that runs per layer reads a value of a tensor: a GPU would have to be waited for."""

from __future__ import annotations

import contextlib
from functools import wraps

import pytest
import torch

from tests.vlm_bridge.families import FAMILIES, SITUATIONS, tiny
from tests.vlm_bridge.families import batch as family_batch
from tests.vlm_bridge.tiny import batch, tiny_llava
from tests.vlm_bridge.watching import watching
from vlm_bridge.observe import observed_pass
from vlm_bridge.observe.collector import Collector
from vlm_bridge.observe.reservoir import Reservoir
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping

HOOKS = ("on_states", "on_attention", "on_inserted")


@contextlib.contextmanager
def watched_hooks(monkeypatch):
    """Note what happens inside the hooks of a pass, and only there."""
    with watching() as watch, monkeypatch.context() as patch:
        for name in HOOKS:
            run = getattr(observed_pass.ObservedPass, name)

            @wraps(run)
            def inside(*args, run=run):
                with watch.inside():
                    return run(*args)

            patch.setattr(observed_pass.ObservedPass, name, inside)
        yield watch


def collect(vlm, inputs, reservoir=None):
    clusters = [str(i) for i in range(len(inputs["input_ids"]))]
    Collector(vlm.layout.n_layers, reservoir).run(vlm, inputs, clusters)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["single", "padded", "ragged", "no image"])
def test_capture_reads_nothing_inside_a_hook(monkeypatch, name, attention):
    vlm = tiny_llava(attention=attention)
    with watched_hooks(monkeypatch) as watch:
        collect(vlm, batch(name), Reservoir(rows=4, width=3))
    assert not watch.found


def test_features_inserted_between_layers_are_measured_without_reading(monkeypatch):
    family = FAMILIES["Qwen3-VL"]
    with watched_hooks(monkeypatch) as watch:
        collect(tiny(family), family_batch(family, SITUATIONS["padded"]))
    assert not watch.found


@pytest.mark.parametrize(
    "fault",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.isfinite().all()),
        lambda x: x.cpu(),
        lambda x: x.detach().numpy(),
        lambda x: x.tolist(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: float(x.max()),
        lambda x: torch.equal(x, x),
    ],
)
def test_a_planted_read_is_found(monkeypatch, fault):
    vlm, clean = tiny_llava(), observed_pass.ObservedPass.on_states

    def planted(self, layer, before, after):
        fault(after)
        clean(self, layer, before, after)

    monkeypatch.setattr(observed_pass.ObservedPass, "on_states", planted)
    with watched_hooks(monkeypatch) as watch:
        collect(vlm, batch("padded"))
    assert len(watch.found) >= vlm.layout.n_layers


def test_one_transfer_brings_a_pass_over(monkeypatch):
    """Two: the groups of the tokens before the pass, all that the hooks found after it."""
    with watching() as watch, watch.inside():
        collect(tiny_llava(layers=6), batch("padded"), Reservoir(rows=4))
    assert len([one for one in watch.found if one.startswith("cpu at observed_pass.py")]) == 2


PLANS = [
    SkipPlan("block", 4, layers=(0, 2)),
    SkipPlan("freeze", 4, layers=(0, 1, 3)),
    SkipPlan("early_exit", 4, exit=1),
    SkipPlan("late_entry", 4, entry=3),
    SkipPlan("band", 4, entry=1, exit=3),
    SkipPlan("sublayer", 4, attention=(0, 1), mlp=(1, 2)),
    SkipPlan("token_pruning", 4, after=2, keep=0.5),
    SkipPlan("token_pruning", 4, after=2, keep=0.5, select="sparsevlm"),
    SkipPlan("progressive_pruning", 4, stages=((1, 0.75), (2, 0.5), (3, 0.25))),
    SkipPlan.compose(SkipPlan("late_entry", 4, entry=1), SkipPlan("freeze", 4, layers=(2,))),
]


@pytest.mark.parametrize("cached", [False, True], ids=["one pass", "chunks"])
@pytest.mark.parametrize("name", ["single", "padded", "ragged"])
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.mode)
def test_no_skipped_layer_reads_a_value(plan, name, cached):
    vlm, inputs = tiny_llava(), batch(name)
    with torch.no_grad(), skipping(vlm, plan), watching() as watch:
        handles = []
        for layer in vlm.layout.layers:
            run = layer.forward

            def inside(*args, run=run, **kwargs):
                with watch.inside():
                    return run(*args, **kwargs)

            handles.append((layer, layer.__dict__.get("forward")))
            layer.forward = inside
        try:
            out = vlm.model(**inputs, use_cache=cached)
            if cached:
                mask = torch.nn.functional.pad(inputs["attention_mask"], (0, 2), value=1)
                more = torch.tensor([[5, 6]] * len(mask))
                cache = out.past_key_values
                vlm.model(input_ids=more, attention_mask=mask, past_key_values=cache)
        finally:
            for layer, forward in handles:
                del layer.forward
                if forward is not None:
                    layer.forward = forward
    assert not watch.found, f"{plan.mode}: {sorted(set(watch.found))}"


def test_what_hooks_find_stays_on_the_device_of_the_layer():
    """On the meta device there are no values: reading or moving one would raise."""
    vlm, inputs = tiny_llava(), batch("padded")
    now = observed_pass.ObservedPass(vlm.layout, inputs, Reservoir(rows=4, width=3), range(3))
    length = inputs["input_ids"].shape[1]
    states = torch.empty(3, length, 32, device="meta")
    for layer in range(4):
        now.on_states(layer, states, states)
        now.on_inserted(layer, states, states)
        now.on_attention(layer, torch.empty(3, 4, now._filled.shape[1], length, device="meta"))
    for table in (now._geometry, now._inserted, now._mass, now._samples):
        assert {found.device.type for found in table.values()} == {"meta"}
