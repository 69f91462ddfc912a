"""The cache layer that holds some tokens reports what an ordinary one would, and keeps up."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache
from transformers.cache_utils import (
    Cache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    StaticLayer,
    StaticSlidingWindowLayer,
)

from vlm_bridge.errors import BridgeError
from vlm_bridge.skip.cache import UNUSED, PartialLayer, placeholder
from vlm_bridge.skip.pass_state import PassState

KINDS = {
    "dynamic": DynamicLayer,
    "sliding": lambda: DynamicSlidingWindowLayer(sliding_window=5),
    "static": lambda: StaticLayer(max_cache_len=40),
    "static sliding": lambda: StaticSlidingWindowLayer(max_cache_len=40, sliding_window=5),
}
lengths = st.lists(st.integers(1, 7), min_size=1, max_size=5)


def numbered(positions: torch.Tensor) -> torch.Tensor:
    """Keys (batch, 1, k, 1) that say which position they are of."""
    return positions[:, None, :, None].float()


def feed(layer: PartialLayer, flags: torch.Tensor) -> torch.Tensor | None:
    """One pass over `flags` (batch, t): only positions without a flag are held."""
    rows, length = PassState(flags).text, flags.shape[1]
    if len(rows) == 0:
        layer.advance(length)
        return None
    now = torch.where(rows.valid, rows.index + layer.seen, UNUSED)
    held = now if layer.positions is None else torch.cat([layer.positions, now], dim=1)
    layer.expect(held, length, rows.full and layer.full)
    keys, _ = layer.update(numbered(now), numbered(now))
    assert torch.equal(keys[:, 0, :, 0][held != UNUSED], held[held != UNUSED].float())
    return held


@pytest.mark.parametrize("kind", KINDS)
@given(lengths=lengths)
def test_it_reports_what_the_layer_it_replaced_would(kind, lengths):
    cache = Cache(layers=[KINDS[kind]()])
    ordinary, partial = KINDS[kind](), PartialLayer.take_over(cache, 0)
    assert cache.layers[0] is partial
    assert partial.is_sliding == ordinary.is_sliding
    assert partial.is_compileable == ordinary.is_compileable
    assert partial.get_max_length() == ordinary.get_max_length()
    for length in lengths:
        assert partial.get_mask_sizes(length) == ordinary.get_mask_sizes(length)
        keys = torch.zeros(1, 1, length, 2)
        ordinary.update(keys, keys)
        feed(partial, torch.ones(1, length, dtype=torch.bool))
        assert partial.get_seq_length() == int(ordinary.get_seq_length())
    partial.reset()
    ordinary.reset()
    assert partial.get_seq_length() == int(ordinary.get_seq_length()) == 0
    assert partial.get_mask_sizes(3) == ordinary.get_mask_sizes(3)


@st.composite
def flag_passes(draw):
    batch = draw(st.integers(1, 3))
    row = st.lists(st.booleans(), min_size=4, max_size=4)
    passes = st.lists(st.lists(row, min_size=batch, max_size=batch), min_size=1, max_size=5)
    return [torch.tensor(one) for one in draw(passes)]


def held_positions(layer: PartialLayer, sequence: int) -> list[int]:
    """What a sequence can attend to, by position; keys and values must say the same."""
    if layer.positions is None:
        return []
    used = layer.positions[sequence] != UNUSED
    found = layer.positions[sequence][used]
    assert torch.equal(layer.keys[sequence, 0, used, 0], found.float())
    assert torch.equal(layer.values, layer.keys)
    assert found.tolist() == sorted(found.tolist())
    return [int(position) for position in found]


@given(passes=flag_passes(), window=st.none() | st.integers(2, 9))
def test_a_window_keeps_what_it_can_still_see(passes, window):
    layer = PartialLayer(window=window)
    for flags in passes:
        feed(layer, flags)
    seen = torch.cat(passes, dim=1)
    for i, flags in enumerate(seen):
        true = [p for p, hidden in enumerate(flags.tolist()) if not hidden]
        if window is None:
            assert held_positions(layer, i) == true
        else:
            visible = [p for p in true if p > len(flags) - window]
            assert held_positions(layer, i)[-len(visible) or len(true) :] == visible
            assert layer.positions is None or layer.positions.shape[1] < window


@given(passes=flag_passes(), window=st.none() | st.integers(2, 9), back=st.integers(1, 6))
def test_cropping_forgets_the_last_tokens(passes, window, back):
    layer = PartialLayer(window=window)
    layer.activate_past_recording()
    for flags in passes:
        feed(layer, flags)
    seen = torch.cat(passes, dim=1)
    layer.crop(-back)
    seen = seen[:, : max(0, seen.shape[1] - back)]
    assert layer.get_seq_length() == seen.shape[1]
    more = torch.tensor([[False, True, False]]).expand(len(seen), -1)
    feed(layer, more)
    for i, flags in enumerate(torch.cat([seen, more], dim=1)):
        true = [p for p, hidden in enumerate(flags.tolist()) if not hidden]
        visible = [p for p in true if window is None or p > len(flags) - window]
        assert held_positions(layer, i)[-len(visible) :] == visible
    if layer.positions is not None and layer.full:
        assert (layer.positions != UNUSED).all()


def test_sequences_are_repeated_and_chosen():
    layer = PartialLayer()
    feed(layer, torch.tensor([[False, False, True], [True, False, True]]))
    layer.batch_repeat_interleave(2)
    layer.reorder_cache(torch.tensor([3, 0]))
    assert [held_positions(layer, i) for i in (0, 1)] == [[1], [0, 1]]


def test_what_cannot_be_taken_back_is_refused():
    with pytest.raises(ValueError, match="negative number of tokens, got 3"):
        PartialLayer().crop(3)
    layer = PartialLayer(window=3)
    feed(layer, torch.zeros(1, 5, dtype=torch.bool))
    with pytest.raises(RuntimeError, match="call `activate_past_recording`"):
        layer.crop(-1)
    layer.crop(0)
    with pytest.raises(BridgeError, match="cannot be used without that plan"):
        layer.update(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_filled_layer_is_taken_over_with_its_keys(kind):
    cache = Cache(layers=[KINDS[kind]()])
    keys = numbered(torch.arange(9)[None])
    cache.update(keys, keys, 0)
    layer = PartialLayer.take_over(cache, 0)
    assert layer.get_seq_length() == 9
    held = held_positions(layer, 0)
    assert held == list(range(9))[-len(held) :]
    assert len(held) >= (4 if layer.is_sliding else 9)
    assert PartialLayer.take_over(cache, 0) is layer


def test_a_cache_without_layers_yet_grows():
    cache = DynamicCache()
    PartialLayer.take_over(cache, 2)
    assert [type(layer) for layer in cache.layers] == [DynamicLayer, DynamicLayer, PartialLayer]


def test_a_placeholder_fits_what_is_there():
    states = torch.ones(2, 3, 8)
    empty = DynamicCache()
    assert placeholder(empty, 0, states)[0].shape == (2, 1, 3, 1)
    empty.update(torch.ones(2, 4, 5, 6), torch.ones(2, 4, 5, 7), 0)
    keys, values = placeholder(empty, 0, states)
    assert (keys.shape, values.shape) == ((2, 4, 3, 6), (2, 4, 3, 7))
    assert not keys.any()
