"""Fast = plain: logits to 1e-4 and equal greedy tokens, in every situation that broke a skip."""

from __future__ import annotations

import pytest
import torch

from tests.vlm_bridge.skip_cases import assert_close, forward, plans, tiny
from tests.vlm_bridge.tiny import BATCHES, batch
from vlm_bridge.skip import skipping

attentions = pytest.mark.parametrize(
    "attention", ["sdpa", pytest.param("eager", marks=pytest.mark.slow)]
)
batches = pytest.mark.parametrize("name", BATCHES)


def real(logits, inputs):
    """Logits of real tokens: what a padded position says is nobody's business."""
    return logits[inputs["attention_mask"].bool()]


@plans
@attentions
@batches
def test_one_pass(plan, attention, name):
    vlm, inputs = tiny(attention), batch(name)
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
    vlm, inputs = tiny(attention), batch(name)
    options = {"max_new_tokens": 6, "do_sample": False, "min_new_tokens": 6}
    with skipping(vlm, plan, fast=False):
        plain = vlm.model.generate(**inputs, **options)
    with skipping(vlm, plan):
        fast = vlm.model.generate(**inputs, **options)
    assert torch.equal(fast, plain)


def in_two_chunks(vlm, inputs, split):
    """Logits of a prompt in two chunks with a cache, and the cache."""
    parts = []
    for span in (slice(0, split), slice(split, None)):
        part = {"input_ids": inputs["input_ids"][:, span]}
        if (part["input_ids"] == 3).any():
            part["pixel_values"] = inputs["pixel_values"]
        if not inputs["attention_mask"].all():  # the growing mask that generation passes
            part["attention_mask"] = inputs["attention_mask"][:, : span.stop]
        past = parts[-1].past_key_values if parts else None
        parts.append(forward(vlm, part, use_cache=True, past_key_values=past))
    return torch.cat([part.logits for part in parts], dim=1), parts[-1].past_key_values


def check_chunks(vlm, inputs, plan, split):
    with skipping(vlm, plan, fast=False):
        whole = forward(vlm, inputs, use_cache=False).logits
        plain, _ = in_two_chunks(vlm, inputs, split)
    with skipping(vlm, plan):
        fast, cache = in_two_chunks(vlm, inputs, split)
    assert cache.get_seq_length() == inputs["input_ids"].shape[1]
    assert_close(real(fast, inputs), real(plain, inputs))
    if not plan.pruning:  # pruning chooses by the last token of the pass, whichever that is
        assert_close(real(plain, inputs), real(whole, inputs))


@plans
@attentions
@pytest.mark.parametrize("split", [3, 9])
@pytest.mark.parametrize("name", ["single", "image first"])
def test_chunks_equal_one_pass(plan, attention, split, name):
    """Prompt in chunks with a cache, no position ids, as one pass without."""
    inputs = batch(name)
    ids = inputs["input_ids"]
    image = (ids == 3).nonzero()[:, 1]
    split = min(split, ids.shape[1] - 1)
    if image.min() < split <= image.max():
        split = int(image.max()) + 1
    check_chunks(tiny(attention), inputs, plan, split)


@plans
@attentions
@pytest.mark.parametrize("name", ["padded", "ragged"])
def test_padded_chunks_equal_one_pass(plan, attention, name):
    """As above for left-padded batches."""
    inputs = batch(name)
    split = int((inputs["input_ids"] == 3).nonzero()[:, 1].max()) + 1
    check_chunks(tiny(attention), inputs, plan, split)


@plans
def test_the_plan_matters(plan):
    """A skip that changed nothing would pass every comparison of fast with plain."""
    vlm, inputs = tiny(), batch("padded")
    full = forward(vlm, inputs).logits
    with skipping(vlm, plan, fast=False):
        skipped = forward(vlm, inputs).logits
    assert (real(full, inputs) - real(skipped, inputs)).abs().max() > 1e-2


@plans
@pytest.mark.parametrize("fast", [True, False])
def test_the_model_is_itself_again(plan, fast):
    vlm, inputs = tiny(), batch("padded")
    before = forward(vlm, inputs).logits
    with pytest.raises(RuntimeError, match="boom"), skipping(vlm, plan, fast=fast):
        raise RuntimeError("boom")
    assert torch.equal(forward(vlm, inputs).logits, before)
    for module in vlm.model.modules():
        assert not {"forward", "generate", "init_continuous_batching"} & module.__dict__.keys()
    for layer in vlm.layout.layers:
        assert not layer._forward_hooks
        assert not layer._forward_pre_hooks
