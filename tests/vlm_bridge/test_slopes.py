"""Slopes of the tail: against finite differences, a linear tail, padding, and the S6 bound."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.vlm_bridge.tiny import processor, tiny_llava
from theory.systems import toy_vlm
from vlm_bridge import cli
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.toy import toy_items, toy_llava
from vlm_bridge.plan.modes import LAYERWISE, removed_by
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import units
from vlm_bridge.rules.measure.slope_table import Slopes
from vlm_bridge.rules.measure.slopes import measure_slopes, slopes_forward_cost
from vlm_bridge.rules.measure.suffix import KINDS, FullPass, finite_difference, gain, jvp
from vlm_bridge.skip import skipping


@pytest.fixture
def kept(items):
    return kept_pass("sdpa", items)


def kept_pass(attention, items):
    vlm = tiny_llava(attention=attention)
    return FullPass(vlm, next(iter(batches(vlm, items, batch_size=len(items)))))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_forward_mode_is_the_finite_difference(attention, kind, items):
    kept = kept_pass(attention, items)
    for layer in range(3):
        along = kept.direction(layer, kind)
        exact = jvp(kept.suffix(layer), kept.outputs[layer], along)
        numeric = finite_difference(kept.suffix(layer), kept.outputs[layer], along)
        assert exact.norm() > 1e-3
        assert (exact - numeric).norm() < 0.01 * exact.norm()


def test_the_tail_is_the_model(kept):
    for layer in range(4):
        torch.testing.assert_close(kept.suffix(layer)(kept.outputs[layer]), kept.logits)


@pytest.mark.parametrize(
    "unit",
    [unit for mode in LAYERWISE for unit in units(mode, 4) if unit.first_layer == 1],
    ids=lambda unit: unit.describe(),
)
@torch.no_grad()
def test_a_whole_step_is_the_skipped_model(kept, unit):
    moved = kept.outputs[1] + kept.direction(1, removed_by(unit))
    with skipping(kept.vlm, unit):
        skipped = kept.vlm.model(**kept.batch.inputs, use_cache=False).logits[:, -1]
    torch.testing.assert_close(kept.suffix(1)(moved), skipped, atol=1e-4, rtol=1e-4)
    assert (skipped - kept.logits).abs().max() > 0.01


@torch.no_grad()
def test_a_whole_step_unseen_in_the_last_layer_is_exit_before_it(kept):
    moved = kept.outputs[3] + kept.direction(3, "unseen")
    with skipping(kept.vlm, SkipPlan("early_exit", 4, exit=3)):
        skipped = kept.vlm.model(**kept.batch.inputs, use_cache=False).logits[:, -1]
    torch.testing.assert_close(kept.suffix(3)(moved), skipped, atol=1e-4, rtol=1e-4)
    assert (skipped - kept.logits).abs().max() > 0.01


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_directions_touch_their_tokens_only(attention, items):
    kept = kept_pass(attention, items)
    vision, pad = kept.vision, ~kept.real
    assert pad.any()  # the batch is padded, or the test says nothing
    for layer in range(4):
        found = {kind: kept.direction(layer, kind) for kind in KINDS}
        assert not any(d[pad].any() for d in found.values())
        assert not found["freeze"][~vision].any()
        assert not found["unseen"][vision].any()
        torch.testing.assert_close(found["block"][vision], found["freeze"][vision])


def test_the_middle_of_the_step_predicts_the_whole_better(kept):
    """The midpoint rule is of second order: on average over layers it comes closer."""
    errors = []
    for at in (0.0, 0.5):
        off = 0.0
        for layer in range(3):
            along, end = kept.direction(layer, "block"), kept.outputs[layer]
            slope = jvp(kept.suffix(layer), end + at * along, along)
            with torch.no_grad():
                off += float((kept.suffix(layer)(end + along) - kept.logits - slope).norm())
        errors.append(off)
    assert errors[1] < errors[0]


@pytest.mark.slow
def test_slopes_do_not_depend_on_the_batch(items):
    vlm = tiny_llava()
    whole, parts = (measure_slopes(vlm, items, batch_size=size, tokens=5) for size in (16, 1))
    for kind in KINDS:
        np.testing.assert_allclose(whole.changes[kind], parts.changes[kind], rtol=2e-3, atol=1e-5)


def test_gain_finds_the_largest_singular_value():
    torch.manual_seed(0)
    matrix = torch.randn(12, 12)
    found = gain(lambda x: x @ matrix.T, torch.zeros(2, 1, 12), steps=300)
    largest = torch.linalg.matrix_norm(matrix, 2)
    torch.testing.assert_close(found, largest.expand(2), rtol=1e-3, atol=0)


def test_the_bound_of_s6_is_above_what_is_measured(items):
    found = measure_slopes(tiny_llava(), items, differences=True, bound=True)
    assert len(found.rows()) == len(KINDS) * 4
    for row in found.rows():
        if row.change > 0:
            assert row.looseness > 1
            assert row.difference < 0.01
        else:
            assert row.layer == 3  # nothing reads vision any more
            assert row.kind in ("freeze", "vision_attention", "vision_mlp")
    by_hand = found.lengths["block"][0, 1] * found.head[0]
    by_hand *= np.prod(1 + found.gains[0, 2:])
    assert found.bound("block")[0, 1] == pytest.approx(by_hand)


def test_predicted_changes_on_fixed_numbers():
    logits = np.log([[0.7, 0.3], [0.5001, 0.4999]])
    change = np.array([[[0.0, 0.0], [-2.0, 0.0]], [[1.0, 1.0], [0.0, 1.0]]])
    made = Slopes("m", 2, "h", ("a", "b"), logits, {}, {}, {}, None, None, "eager", {})
    kl, flips = made.predicted(change)
    assert flips.tolist() == [0.0, 1.0]
    q = np.array([0.7 * np.exp(-2), 0.3])
    r = np.array([0.5001, 0.4999 * np.e])
    expected = [
        sum(p * np.log(p / x) for p, x in zip(row, new / new.sum(), strict=True))
        for row, new in (((0.7, 0.3), q), ((0.5001, 0.4999), r))
    ]
    assert kl == pytest.approx([0.0, np.mean(expected)])


def test_flips_of_the_toy_are_the_planted_truth(tmp_path):
    toy = toy_vlm()
    found = measure_slopes(toy_llava(toy), toy_items(toy, tmp_path), kinds=("block", "freeze"))
    for kind, safe in (("block", toy.truth.safe_blocks), ("freeze", toy.truth.safe_freezes)):
        _, flips = found.predicted(found.changes[kind])
        assert set(flips) <= {0.0, 1.0}
        assert tuple(np.flatnonzero(flips == 0.0)) == safe


@pytest.mark.slow
def test_the_checkpoint_continues(items, tmp_path):
    vlm, checkpoint = tiny_llava(), tmp_path / "checkpoint.jsonl"
    first = measure_slopes(vlm, items, batch_size=3, checkpoint=checkpoint)
    lines = checkpoint.read_text().splitlines()
    assert len(lines) > 2
    checkpoint.write_text("\n".join(lines[:2]) + "\n")
    again = measure_slopes(vlm, items, batch_size=3, checkpoint=checkpoint)
    np.testing.assert_array_equal(first.changes["freeze"], again.changes["freeze"])
    with pytest.raises(BridgeError, match="belongs to another run"):
        measure_slopes(vlm, items, batch_size=3, tokens=7, checkpoint=checkpoint)


def test_json_is_strict_and_says_what_it_cost(items):
    found = measure_slopes(tiny_llava(), items, kinds=("freeze",)).to_json()
    read = json.loads(json.dumps(found, allow_nan=False))
    assert (
        read["forward_cost"]
        == slopes_forward_cost(4, ("freeze",))
        == {"full pass": 1.0, "jvp": 3.0}
    )
    assert read["attention"] == "sdpa (math kernel)"
    assert [row["looseness"] for row in read["rows"]] == [None] * 4
    assert read["n_images"] == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": ("sideways",)}, "slopes are along block, .*, vision_mlp, not sideways"),
        ({"kinds": ()}, "not none"),
        ({"at": 1.5}, "between 0 and 1 of the step, got at=1.5"),
        ({"tokens": 1}, "at least two answers to compare, got tokens=1"),
    ],
)
def test_bad_requests_are_named(items, change, message):
    with pytest.raises(BridgeError, match=message):
        measure_slopes(tiny_llava(), items, **change)


def test_models_without_forward_mode_are_refused(items):
    half = tiny_llava()
    half.model.to(torch.bfloat16)
    with pytest.raises(BridgeError, match=r"in float32, and tiny is in torch\.bfloat16"):
        measure_slopes(half, items)
    flash = tiny_llava()
    flash.layout.text_config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(BridgeError, match="'flash_attention_2', which has no forward-mode"):
        measure_slopes(flash, items)


def test_the_bound_needs_gains(items):
    with pytest.raises(BridgeError, match="bound=True"):
        measure_slopes(tiny_llava(), items, kinds=("block",)).bound("block")


def test_the_command_prints_what_it_writes(jsonl, tmp_path, capsys):
    vlm, folder, out = tiny_llava(), tmp_path / "model", tmp_path / "slopes.json"
    vlm.model.save_pretrained(folder)
    processor().save_pretrained(folder)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["slopes", str(folder), "--data", str(jsonl), "--out", str(out)])
    assert not stopped.value.code
    lines = capsys.readouterr().out.splitlines()
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 4 * len(KINDS)
    for row, line in zip(rows, lines[1:], strict=False):
        words = line.split("\t")
        assert words[:2] == [str(row["layer"]), row["kind"]]
        assert words[5] == f"{row['kl']:.3g}"
        assert words[8] == f"{row['bound']:.3g}"
    assert "attention: sdpa (math kernel)" in lines
    assert any(
        line.startswith("forward-pass equivalents: full pass 1.0, jvp 21.0") for line in lines
    )
    assert not list(tmp_path.glob("*checkpoint*"))
