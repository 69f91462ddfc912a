"""What only a CUDA device can show; skipped by name where there is none."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from transformers.utils import is_flash_attn_2_available

from tests.vlm_bridge.tiny import batch, processor, tiny_llava
from vlm_bridge.evaluate.sweep import sweep, sweep_plans
from vlm_bridge.model.vlm import VLM, load
from vlm_bridge.observe import observed_pass
from vlm_bridge.observe.collector import Collector
from vlm_bridge.observe.reservoir import Reservoir
from vlm_bridge.plan.modes import RULE_MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
HOOKS = ("on_states", "on_attention", "on_inserted")
PLANS = [
    SkipPlan("block", 4, layers=(0, 2)),
    SkipPlan("freeze", 4, layers=(0, 1, 3)),
    SkipPlan("early_exit", 4, exit=1),
    SkipPlan("late_entry", 4, entry=3),
    SkipPlan("band", 4, entry=1, exit=3),
    SkipPlan("sublayer", 4, attention=(0, 1), mlp=(1, 2)),
    SkipPlan("token_pruning", 4, after=2, keep=0.5),
    SkipPlan("progressive_pruning", 4, stages=((1, 0.75), (3, 0.25))),
]


def on_device(vlm: VLM, dtype: torch.dtype = torch.float32) -> VLM:
    vlm.model.to(device=DEVICE, dtype=dtype)
    return vlm


def inputs_on(device: str, name: str, dtype: torch.dtype = torch.float32):
    return {
        key: value.to(device, dtype if value.is_floating_point() else None)
        for key, value in batch(name).items()
    }


def profiled(vlm, inputs, reservoir=None):
    collector = Collector(vlm.layout.n_layers, reservoir)
    collector.run(vlm, inputs, [str(i) for i in range(len(inputs["input_ids"]))])
    return collector.profile("tiny")


@contextlib.contextmanager
def no_waiting(monkeypatch):
    """CUDA raises where a hook waits for the device."""
    with monkeypatch.context() as patch:
        for name in HOOKS:
            run = getattr(observed_pass.ObservedPass, name)

            def hook(*args, run=run):
                torch.cuda.set_sync_debug_mode("error")
                try:
                    return run(*args)
                finally:
                    torch.cuda.set_sync_debug_mode("default")

            patch.setattr(observed_pass.ObservedPass, name, hook)
        yield


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["single", "padded", "ragged"])
def test_capture_on_a_gpu_equals_the_cpu_and_never_waits(monkeypatch, name, attention):
    want = profiled(tiny_llava(attention=attention), inputs_on("cpu", name))
    vlm = on_device(tiny_llava(attention=attention))
    profiled(vlm, inputs_on(DEVICE, name), Reservoir(rows=3, width=4))  # compiles kernels
    with no_waiting(monkeypatch):
        found = profiled(vlm, inputs_on(DEVICE, name), Reservoir(rows=3, width=4))
    for group in want.groups:
        for measure in want.measures[group]:
            np.testing.assert_allclose(
                found.values(group, measure), want.values(group, measure), rtol=1e-3, atol=1e-5
            )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["single", "padded", "ragged"])
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.mode)
def test_fast_equals_plain(plan, name, attention, dtype):
    """In bfloat16 the two differ by rounding: as much as the model from itself in float32."""
    vlm, inputs = on_device(tiny_llava(attention=attention), dtype), inputs_on(DEVICE, name, dtype)
    real = inputs["attention_mask"].bool()
    found = []
    for fast in (True, False):
        with torch.no_grad(), skipping(vlm, plan, fast=fast):
            found.append(vlm.model(**inputs).logits[real].float())
    if dtype == torch.float32:
        torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)
        return
    exact, whole = on_device(tiny_llava(attention=attention)), inputs_on(DEVICE, name)
    with torch.no_grad(), skipping(exact, plan, fast=False):
        want = exact.model(**whole).logits[real]
    rounding = (found[1] - want).pow(2).mean().sqrt()
    assert (found[0] - want).pow(2).mean().sqrt() <= 3 * rounding + 1e-3


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.mode)
def test_greedy_tokens_equal(plan):
    vlm, inputs = on_device(tiny_llava()), inputs_on(DEVICE, "ragged")
    found = []
    for fast in (True, False):
        with skipping(vlm, plan, fast=fast):
            found.append(vlm.model.generate(**inputs, do_sample=False, max_new_tokens=6))
    assert torch.equal(*found)


def test_sweep_on_a_gpu_equals_the_cpu(items):
    plans = sweep_plans(4, step=2, modes=RULE_MODES)
    want = sweep(tiny_llava(), items, plans, batch_size=3)
    found = sweep(on_device(tiny_llava()), items, plans, batch_size=3)
    for one, other in zip(found, want, strict=True):
        assert one.kl_full_skipped.value == pytest.approx(other.kl_full_skipped.value, abs=1e-3)


@pytest.mark.skipif(not is_flash_attn_2_available(), reason="flash attention is not installed")
def test_flash_attention_is_profiled_as_sdpa(monkeypatch):
    vlm = on_device(tiny_llava(), torch.bfloat16)
    inputs = inputs_on(DEVICE, "padded", torch.bfloat16)
    want = profiled(vlm, inputs)
    vlm.model.set_attn_implementation("flash_attention_2")
    found = profiled(vlm, inputs)
    np.testing.assert_allclose(found.values("text", "var"), want.values("text", "var"), atol=0.02)
    assert vlm.layout.text_config._attn_implementation == "flash_attention_2"
    block = SkipPlan("block", 4, layers=(1,))
    logits = []
    for fast in (True, False):
        with torch.no_grad(), skipping(vlm, block, fast=fast):
            logits.append(vlm.model(**inputs).logits[inputs["attention_mask"].bool()])
    torch.testing.assert_close(*logits, atol=1e-2, rtol=1e-2)


def spread(how: str, folder) -> VLM:
    """The tiny model over several devices, and where its inputs go."""
    vlm = tiny_llava()
    if how == "auto":
        vlm.model.save_pretrained(folder)
        processor().save_pretrained(folder)
        return load(folder, device="auto")
    places = {f"model.language_model.layers.{i}": 0 if i < 2 else "cpu" for i in range(4)}
    model = dispatch_model(vlm.model, {"": 0, **places}, main_device=0)
    return VLM("tiny", model, vlm.processor, vlm.layout)


@pytest.mark.parametrize("how", ["auto", "half on the cpu"])
def test_a_device_map_changes_nothing(how, tmp_path):
    want = profiled(tiny_llava(), inputs_on("cpu", "padded"), Reservoir(rows=3))
    vlm = spread(how, tmp_path)
    inputs = inputs_on(str(vlm.device), "padded")
    found = profiled(vlm, inputs, Reservoir(rows=3))
    for group in want.groups:
        for measure in want.measures[group]:
            np.testing.assert_allclose(
                found.values(group, measure), want.values(group, measure), rtol=1e-3, atol=1e-5
            )
    for plan in PLANS:
        logits = []
        for fast in (True, False):
            with torch.no_grad(), skipping(vlm, plan, fast=fast):
                logits.append(vlm.model(**inputs).logits[inputs["attention_mask"].bool()].cpu())
        torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)
