"""Slopes of the margin: against jvp, closed forms, and what they say about units."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from tests.vlm_bridge.families import FAMILIES, SITUATIONS, batch, tiny
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.data import easy_vqa, limit_per_image
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import Batch, batches
from vlm_bridge.model.vlm import load
from vlm_bridge.plan.modes import KNOWN_REMOVAL_MODES, SLOPE_GROUPS
from vlm_bridge.rules.measure.margin import MarginPass, _held
from vlm_bridge.rules.measure.sensitivity import (
    ORTHOGONAL,
    MarginSensitivity,
    measure_sensitivity,
    sensitivity_passes,
)
from vlm_bridge.rules.measure.suffix import KINDS, FullPass, jvp


def forward_cost_of(items, attention="sdpa", **options):
    vlm = tiny_llava(attention=attention)
    one = next(iter(batches(vlm, items, batch_size=len(items))))
    return FullPass(vlm, one), MarginPass(vlm, one, **options)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_reverse_mode_is_forward_mode(attention, kind, items):
    kept, margin = forward_cost_of(items, attention)
    top = kept.logits.topk(2, dim=-1).indices
    for layer in (0, 2):
        along = kept.direction(layer, kind)
        moved = jvp(kept.suffix(layer), kept.outputs[layer], along).gather(-1, top)
        found = (margin.slopes[layer] * along).sum((-1, -2))
        torch.testing.assert_close(found, moved[:, 0] - moved[:, 1], rtol=1e-3, atol=1e-5)
    assert found.abs().max() > 1e-4 or kind == "freeze"


@pytest.mark.parametrize("held", [False, True])
def test_the_pass_is_the_full_pass(held, items):
    kept, margin = forward_cost_of(items, held=held)
    torch.testing.assert_close(margin.logits, kept.logits)
    for ours, theirs in zip(margin.outputs, kept.outputs, strict=True):
        torch.testing.assert_close(ours, theirs)
        assert not ours.requires_grad
    p = kept.logits.softmax(-1).topk(2, dim=-1).values
    torch.testing.assert_close(margin.weights, p.prod(-1).sqrt())
    torch.testing.assert_close(margin.margins, (p[:, 0] / p[:, 1]).log())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family(name):
    """Reverse mode is a jvp; along the last state the plain slope is 0 and the held one is m."""
    vlm = tiny(FAMILIES[name])
    inputs = batch(FAMILIES[name], SITUATIONS["padded"])
    places = tuple(range(len(inputs["input_ids"])))
    asked = Batch((), places, inputs)
    kept, plain = FullPass(vlm, asked), MarginPass(vlm, asked)
    held = MarginPass(vlm, asked, held=True)
    torch.testing.assert_close(held.logits, kept.logits)
    top = kept.logits.topk(2, dim=-1).indices
    along = kept.direction(1, "block")
    moved = jvp(kept.suffix(1), kept.outputs[1], along).gather(-1, top)
    found = (plain.slopes[1] * along).sum((-1, -2))
    torch.testing.assert_close(found, moved[:, 0] - moved[:, 1], rtol=1e-3, atol=1e-5)
    last = kept.outputs[-1]
    torch.testing.assert_close(
        (held.slopes[-1] * last).sum((-1, -2)), held.margins, rtol=1e-3, atol=1e-5
    )
    assert ((plain.slopes[-1] * last).sum((-1, -2)).abs() < 1e-2 * plain.margins + 1e-4).all()


@given(seed=st.integers(0, 10_000), centred=st.booleans(), biased=st.booleans())
def test_a_held_norm_is_linear_in_the_step(seed, centred, biased):
    """`norm(h) + W (d - mean d) / sigma`, W d / rms for an RMSNorm: no radial term."""
    generator = torch.Generator().manual_seed(seed)
    h, d = torch.randn(2, 3, 6, generator=generator)
    norm = nn.LayerNorm(6, bias=biased) if centred else LlamaRMSNorm(6)
    norm.weight.data = torch.randn(6, generator=generator)
    if centred and biased:
        norm.bias.data = torch.randn(6, generator=generator)
    at = h.clone().requires_grad_()
    held = _held(norm, (at,), norm(at))
    torch.testing.assert_close(held, norm(h), rtol=1e-4, atol=1e-5)
    centre = (lambda x: x - x.mean(-1, keepdim=True)) if centred else (lambda x: x)
    size = (
        centre(h).square().mean(-1, keepdim=True) + 1e-5 * centred + 1e-6 * (not centred)
    ).sqrt()
    wanted = norm.weight * centre(d) / size
    found = torch.func.jvp(lambda x: _held(norm, (x,), norm(x)), (h,), (d,))[1]
    # The scale is a constant of the pass; jvp sees it through `detach` as one.
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_a_linear_tail_in_closed_form(items):
    """Layers behind l that add nothing: dm = (u_1 - u_2) . W d / rms(h), norms held."""
    vlm = tiny_llava()
    for layer in vlm.layout.layers[2:]:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    one = next(iter(batches(vlm, items, batch_size=len(items))))
    margin = MarginPass(vlm, one, held=True)
    h, norm = margin.outputs[1][:, -1], vlm.layout.decoder.norm
    top = margin.logits.topk(2, dim=-1).indices
    head = vlm.model.get_output_embeddings().weight
    reads = (head[top[:, 0]] - head[top[:, 1]]) * norm.weight
    size = (h.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()
    torch.testing.assert_close(margin.slopes[1][:, -1], reads / size, rtol=1e-4, atol=1e-6)
    assert not margin.slopes[1][:, :-1].any()  # no reader is left for the other tokens
    found = measure_sensitivity(vlm, items, batch_size=len(items))
    step = margin.direction(1, "block")[:, -1]
    by_hand = (reads / size * step).sum(-1)[np.argsort(one.places)]
    np.testing.assert_allclose(found.change["block"][:, 1], by_hand, rtol=1e-3, atol=1e-5)
    assert not found.bound["block"][:, 2:].any()
    assert not found.bound["freeze"][:, 1:].any()
    assert not found.bound["early_exit"][:, 1:].any()


def made(bound, change, weights=None, margins=None, clusters=None):
    n = len(bound)
    return MarginSensitivity(
        clusters=tuple(clusters or map(str, range(n))),
        margins=np.ones(n) if margins is None else np.asarray(margins),
        weights=np.full(n, 0.5) if weights is None else np.asarray(weights),
        bound={"block": np.asarray(bound, dtype=float)},
        change={"block": np.asarray(change, dtype=float)},
    )


def test_scores_on_fixed_numbers():
    found = made(
        [[8.0, 1.0], [4.0, 1.0], [2.0, 3.0]],
        [[1.0, 0.0], [-2.0, 1e-6], [0.5, -1e-6]],
        weights=[0.5, 0.25, 0.1],
        margins=[2.0, 2.0, 0.5],
        clusters=["a", "a", "b"],
    )
    # Images a and b: ((4 + 1) / 2 + 0.2) / 2; the second step is orthogonal to the slope.
    orthogonal = (0.25e-6 / 2 + 0.1e-6) / 2 / ORTHOGONAL
    assert found.score("block") == pytest.approx([1.35, orthogonal])
    assert found.flips("block") == pytest.approx([(0.5 + 1.0) / 2, 0.0])


@given(p=st.floats(0.01, 0.99), dm=st.floats(-0.02, 0.02))
def test_half_its_square_is_the_kl_to_second_order(p, dm):
    q = 1.0 / (1.0 + (1.0 - p) / p * np.exp(-dm))
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    score = made([[abs(dm)]], [[dm]], weights=[np.sqrt(p * (1 - p))]).score("block")[0]
    assert score**2 / 2 == pytest.approx(kl, abs=abs(dm) ** 3 + 1e-12)


def test_the_bound_is_above_any_turned_step(items):
    """Cauchy-Schwarz, token by token, and the plain slope of the very step."""
    kept, margin = forward_cost_of(items)
    found = measure_sensitivity(kept.vlm, items, modes=["freeze", "block"], batch_size=len(items))
    order = np.argsort(margin.batch.places)
    generator = torch.Generator().manual_seed(0)
    for mode in ("freeze", "block"):
        for layer in range(4):
            step = kept.direction(layer, mode)
            turn = torch.linalg.qr(torch.randn(*[step.shape[-1]] * 2, generator=generator))[0]
            for moved in (step, step @ turn):
                change = (margin.slopes[layer] * moved).sum((-1, -2)).abs()[order]
                assert (change.numpy() <= found.bound[mode][:, layer] * 1.001 + 1e-6).all()


def test_exits_are_sums_and_an_entry_is_one_place(items):
    kept, margin = forward_cost_of(items)
    _, held = forward_cost_of(items, held=True)
    found = measure_sensitivity(kept.vlm, items, batch_size=len(items))
    order = np.argsort(margin.batch.places)
    unseen = [kept.direction(layer, "unseen") for layer in range(4)]
    frozen = [kept.direction(layer, "freeze") for layer in range(4)]

    def length(x):
        return torch.linalg.vector_norm(x, dim=-1)

    def felt(layer, step):
        return (held.slopes[layer] * step).sum((-1, -2))[order]

    exit_2 = sum(felt(j, unseen[j]) for j in (2, 3))
    np.testing.assert_allclose(found.change["early_exit"][:, 1], exit_2, rtol=1e-3, atol=1e-5)
    exit_bound = sum((length(margin.slopes[j]) * length(unseen[j])).sum(-1)[order] for j in (2, 3))
    np.testing.assert_allclose(found.bound["early_exit"][:, 1], exit_bound, rtol=1e-3)
    entry_2 = felt(1, frozen[0] + frozen[1]) + felt(0, unseen[0]) + felt(1, unseen[1])
    np.testing.assert_allclose(found.change["late_entry"][:, 1], entry_2, rtol=1e-3, atol=1e-5)
    whole = frozen[0] + frozen[1] + unseen[0] + unseen[1]
    entry_bound = (length(margin.slopes[1]) * length(whole)).sum(-1)[order]
    np.testing.assert_allclose(found.bound["late_entry"][:, 1], entry_bound, rtol=1e-3)


def test_it_does_not_depend_on_the_batch_and_continues(items, tmp_path):
    vlm, checkpoint = tiny_llava(), tmp_path / "felt.jsonl"
    whole = measure_sensitivity(vlm, items, batch_size=16)
    parts = measure_sensitivity(vlm, items, batch_size=2, checkpoint=checkpoint)
    lines = checkpoint.read_text().splitlines()
    checkpoint.write_text("\n".join(lines[:2]) + "\n")
    again = measure_sensitivity(vlm, items, batch_size=2, checkpoint=checkpoint)
    assert len(checkpoint.read_text().splitlines()) == len(lines)
    for mode in KNOWN_REMOVAL_MODES:
        np.testing.assert_allclose(parts.bound[mode], again.bound[mode])
        np.testing.assert_allclose(whole.score(mode), parts.score(mode), rtol=2e-3)


def test_weights_get_no_derivative_and_hooks_go_away(items):
    vlm = tiny_llava()

    def hooks():
        return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in vlm.model.modules()]

    one = next(iter(batches(vlm, items, batch_size=len(items))))
    FullPass(vlm, one)  # transformers hooks a model when it runs for the first time
    before = hooks()
    MarginPass(vlm, one, held=True)
    assert hooks() == before
    assert all(weight.grad is None for weight in vlm.model.parameters())


def test_cost_and_bad_requests(items):
    assert sum(sensitivity_passes(["block"]).values()) == 6.0
    costs = [sum(sensitivity_passes(modes).values()) for modes in SLOPE_GROUPS.values()]
    assert costs == [7.0, 10.0]
    assert {mode for group in SLOPE_GROUPS.values() for mode in group} == set(KNOWN_REMOVAL_MODES)
    with pytest.raises(BridgeError, match="sublayer, early_exit, late_entry, not in band"):
        measure_sensitivity(tiny_llava(), items, modes=["band"])
    with pytest.raises(BridgeError, match="not in none"):
        measure_sensitivity(tiny_llava(), items, modes=[])


@pytest.mark.slow
def test_what_slopes_alone_miss_on_a_trained_model():
    """Layer 0 makes of vision what all others read, and no derivative at its end says so."""
    vlm = load("reference")
    items = limit_per_image(easy_vqa("tuning"), 1)[:12]
    found = measure_sensitivity(vlm, items, batch_size=6)
    freeze = found.score("freeze")
    assert freeze.argmax() == 0
    assert freeze[0] > 1.4 * np.delete(freeze, 0).max()
    assert freeze[-1] == 0.0  # nothing reads vision behind the last layer
    assert {0, 1, 2} < set(np.argsort(-found.score("block"))[:6].tolist())
    assert found.score("late_entry")[0] > 2 * found.score("late_entry")[-1]
    one = next(iter(batches(vlm, items, batch_size=12)))
    plain = MarginPass(vlm, one)
    change = (plain.slopes[0] * plain.direction(0, "freeze")).sum((-1, -2))
    assert (change.abs() < plain.margins).all()
