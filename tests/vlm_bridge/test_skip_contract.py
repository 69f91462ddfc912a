"""Fast = plain: logits to 1e-4 and equal greedy tokens, in every situation that broke a skip."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache, StaticCache

from tests.vlm_bridge.tiny import BATCHES, batch, tiny_llava
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan import SkipPlan
from vlm_bridge.skip import skipping
from vlm_bridge.skip.cache import TextOnlyLayer
from vlm_bridge.skip.fast import fast_forward
from vlm_bridge.skip.passes import PassTracker
from vlm_bridge.skip.plain import causal_mask

L = 4
PLANS = [
    SkipPlan("block", L, layers=(0,)),
    SkipPlan("block", L, layers=(1, 3)),
    SkipPlan("block", L, layers=(0, 1, 2, 3)),
    SkipPlan("freeze", L, layers=(0,)),
    SkipPlan("freeze", L, layers=(1, 2)),
    SkipPlan("freeze", L, layers=(0, 1, 2, 3)),
    SkipPlan("early_exit", L, exit=0),
    SkipPlan("early_exit", L, exit=2),
    SkipPlan("late_entry", L, entry=1),
    SkipPlan("late_entry", L, entry=3),
    SkipPlan("band", L, entry=1, exit=3),
]
plans = pytest.mark.parametrize("plan", PLANS, ids=lambda p: p.describe())
attentions = pytest.mark.parametrize("attention", ["sdpa", "eager"])
batches = pytest.mark.parametrize("name", BATCHES)


def forward(vlm, inputs, **kwargs):
    with torch.no_grad():
        return vlm.model(**inputs, **kwargs)


def real(logits, inputs):
    """Logits of real tokens: what a padded position says is nobody's business."""
    return logits[inputs["attention_mask"].bool()]


def assert_close(a, b):
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@plans
@attentions
@batches
def test_one_pass(plan, attention, name):
    vlm, inputs = tiny_llava(attention=attention), batch(name)
    for use_cache in (False, True):
        with skipping(vlm, plan, fast=False):
            plain = forward(vlm, inputs, use_cache=use_cache).logits
        with skipping(vlm, plan):
            fast = forward(vlm, inputs, use_cache=use_cache).logits
        assert_close(real(fast, inputs), real(plain, inputs))


@plans
@attentions
@batches
def test_generate(plan, attention, name):
    vlm, inputs = tiny_llava(attention=attention), batch(name)
    options = {"max_new_tokens": 6, "do_sample": False, "min_new_tokens": 6}
    with skipping(vlm, plan, fast=False):
        plain = vlm.model.generate(**inputs, **options)
    with skipping(vlm, plan):
        fast = vlm.model.generate(**inputs, **options)
    assert torch.equal(fast, plain)


@plans
@attentions
@pytest.mark.parametrize("split", [3, 6, 9])
@pytest.mark.parametrize("name", ["single", "image first"])
def test_chunks_equal_one_pass(plan, attention, split, name):
    """Prompt and answer in chunks with a cache, no position ids, as one pass without."""
    vlm, inputs = tiny_llava(attention=attention), batch(name)
    ids = inputs["input_ids"]
    image = (ids == 3).nonzero()[:, 1]
    split = min(split, ids.shape[1] - 1)
    if image.min() < split <= image.max():
        split = int(image.max()) + 1
    with skipping(vlm, plan, fast=False):
        whole = forward(vlm, inputs, use_cache=False).logits
    for fast in (True, False):
        with skipping(vlm, plan, fast=fast):
            first, second = ids[:, :split], ids[:, split:]
            pixels = {"pixel_values": inputs["pixel_values"]}
            has = [bool((part == 3).any()) for part in (first, second)]
            out = forward(vlm, {"input_ids": first} | (pixels if has[0] else {}), use_cache=True)
            cache = out.past_key_values
            rest = forward(
                vlm,
                {"input_ids": second} | (pixels if has[1] else {}),
                use_cache=True,
                past_key_values=cache,
            )
        assert cache.get_seq_length() == ids.shape[1]
        assert_close(torch.cat([out.logits, rest.logits], dim=1), whole)


@plans
@attentions
@pytest.mark.parametrize("name", ["padded", "ragged"])
def test_padded_chunks_equal_one_pass(plan, attention, name):
    """As above for left-padded batches, with the growing mask that generation passes."""
    vlm, inputs = tiny_llava(attention=attention), batch(name)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    split = int((ids == 3).nonzero()[:, 1].max()) + 1
    with skipping(vlm, plan, fast=False):
        whole = forward(vlm, inputs, use_cache=False).logits
    for fast in (True, False):
        with skipping(vlm, plan, fast=fast):
            first = {**inputs, "input_ids": ids[:, :split], "attention_mask": mask[:, :split]}
            out = forward(vlm, first, use_cache=True)
            rest = {"input_ids": ids[:, split:], "attention_mask": mask}
            rest = forward(vlm, rest, use_cache=True, past_key_values=out.past_key_values)
        logits = torch.cat([out.logits, rest.logits], dim=1)
        assert_close(real(logits, inputs), real(whole, inputs))


@plans
def test_the_plan_matters(plan):
    """A skip that changed nothing would pass every comparison of fast with plain."""
    vlm, inputs = tiny_llava(), batch("padded")
    full = forward(vlm, inputs).logits
    with skipping(vlm, plan, fast=False):
        skipped = forward(vlm, inputs).logits
    assert (real(full, inputs) - real(skipped, inputs)).abs().max() > 1e-2


@plans
@pytest.mark.parametrize("fast", [True, False])
def test_the_model_is_itself_again(plan, fast):
    vlm, inputs = tiny_llava(), batch("padded")
    before = forward(vlm, inputs).logits
    with pytest.raises(RuntimeError, match="boom"), skipping(vlm, plan, fast=fast):
        raise RuntimeError("boom")
    assert torch.equal(forward(vlm, inputs).logits, before)
    assert not vlm.layout.base._forward_pre_hooks
    for layer in vlm.layout.layers:
        assert "forward" not in layer.__dict__
        assert not layer._forward_hooks
        assert not layer._forward_pre_hooks


@pytest.mark.parametrize(
    "plan", [SkipPlan("freeze", L, layers=(1,)), SkipPlan("late_entry", L, entry=2)]
)
def test_no_mask_behind_a_past_means_causal(plan):
    """Decoders may leave the mask out; with several queries and a past, sdpa would cut keys."""
    vlm = tiny_llava()
    layer, tracker = vlm.layout.layers[1], PassTracker(vlm.layout)
    torch.manual_seed(0)
    states = torch.randn(1, 9, 32)
    flags = torch.tensor([[False] * 5 + [True, True, False, False]])

    def run(mask):
        cache = DynamicCache(config=vlm.layout.text_config)
        found = []
        for span in (slice(0, 4), slice(4, 9)):
            now, length = states[:, span], span.stop
            positions = torch.arange(span.start, length)[None]
            tracker.begin(flags[:, span])
            found.append(
                fast_forward(plan, 1, layer.forward, tracker)(
                    now,
                    attention_mask=causal_mask(now, span.start) if mask else None,
                    past_key_values=cache,
                    position_embeddings=vlm.layout.decoder.rotary_emb(now, positions),
                )
            )
        return torch.cat(found, dim=1)

    with torch.no_grad():
        assert_close(run(mask=False), run(mask=True))


def test_a_cache_filled_under_a_plan_is_refused_outside_it():
    vlm, inputs = tiny_llava(), batch("single")
    with skipping(vlm, SkipPlan("early_exit", L, exit=2)):
        cache = forward(vlm, inputs, use_cache=True).past_key_values
    with pytest.raises(BridgeError, match="cannot be used without that plan"):
        forward(vlm, {"input_ids": torch.tensor([[5]])}, past_key_values=cache)


def test_a_static_cache_is_refused():
    vlm, inputs = tiny_llava(), batch("single")
    cache = StaticCache(config=vlm.layout.text_config, max_cache_len=32)
    with (
        skipping(vlm, SkipPlan("early_exit", L, exit=2)),
        pytest.raises(BridgeError, match="cache layer 2 is a StaticLayer"),
    ):
        forward(vlm, inputs, past_key_values=cache)


def test_a_call_without_ids_is_refused():
    vlm = tiny_llava()
    with skipping(vlm, SkipPlan("freeze", L, layers=(1,))):
        with pytest.raises(BridgeError, match="must be called with input_ids"):
            forward(vlm, {"inputs_embeds": torch.zeros(1, 3, 32)})
        with pytest.raises(BridgeError, match="the decoder was called directly"):
            vlm.layout.decoder(input_ids=torch.tensor([[5, 6]]))


def test_beam_search_follows_the_text_cache():
    vlm, inputs = tiny_llava(), batch("ragged")
    options = {"max_new_tokens": 5, "num_beams": 3, "do_sample": False}
    for plan in (SkipPlan("early_exit", L, exit=1), SkipPlan("freeze", L, layers=(0, 2))):
        with skipping(vlm, plan, fast=False):
            plain = vlm.model.generate(**inputs, **options)
        with skipping(vlm, plan):
            fast = vlm.model.generate(**inputs, **options)
        assert torch.equal(plain, fast)


def test_the_text_cache_crops_selects_repeats_and_resets():
    layer = TextOnlyLayer()
    assert layer.get_seq_length() == 0
    keys = torch.arange(2 * 1 * 3 * 2, dtype=torch.float32).reshape(2, 1, 3, 2)
    layer.expect(torch.tensor([[0, 1, 6], [0, 5, -1]]), 7)
    layer.update(keys, keys)
    assert layer.get_seq_length() == 7
    assert layer.get_mask_sizes(2) == (9, 0)
    layer.batch_repeat_interleave(2)
    assert torch.equal(layer.positions[1], torch.tensor([0, 1, 6]))
    layer.batch_select_indices(torch.tensor([0, 2]))
    assert torch.equal(layer.keys, keys)
    layer.crop(-1)
    assert layer.get_seq_length() == 6
    assert torch.equal(layer.positions, torch.tensor([[0, 1], [0, 5]]))
    assert torch.equal(layer.keys, keys[:, :, :2])
    with pytest.raises(ValueError, match="negative number of tokens, got 3"):
        layer.crop(3)
    layer.reset()
    assert layer.get_seq_length() == 0
    assert layer.positions is None
