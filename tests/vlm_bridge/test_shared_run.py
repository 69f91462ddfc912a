"""Answers under many plans equal those under each alone; what plans share runs once."""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest

import numpy as np
import pytest
from tokenizers.decoders import ByteFallback, ByteLevel, Fuse, Replace, Sequence, Strip
from tokenizers.pre_tokenizers import ByteLevel as ByteLevelTokens

from tests.vlm_bridge.families import FAMILIES, FULL, batch, tiny
from tests.vlm_bridge.skip_cases import BAND, EXIT, FREEZE, LATE, PRUNE
from tests.vlm_bridge.tiny import asked_pictures, tiny_llava
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.diverging import Diverged, has_left
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.shared_run import SharedRun
from vlm_bridge.model.prompts import Batch, batches
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import units

BLOCKS = units("block", 4)
VISION = SkipPlan("block", 2, layers=(1,), stack="vision")
NOTHING = SkipPlan("block", 4)
PLANS = [*BLOCKS, FREEZE, EXIT, LATE, BAND, PRUNE, VISION, NOTHING]
SETTINGS = {"batch_size": 5}


@pytest.fixture(scope="module")
def vlm():
    return tiny_llava()


@pytest.fixture(scope="module")
def full(vlm, tmp_path_factory):
    """Answers about 12 images in three batches, whose prompts have three lengths."""
    pictures = asked_pictures(tmp_path_factory.mktemp("pictures"), 12)
    return FullAnswers.ask(vlm, pictures, max_new_tokens=6, **SETTINGS)


def test_the_outcomes_are_those_of_each_plan_alone(vlm, full):
    together = full.of_plans(vlm, PLANS, **SETTINGS)
    alone = [full.outcomes(vlm, plan, **SETTINGS) for plan in PLANS]
    assert together == alone
    assert len({outcomes.disagree for outcomes in together}) > 4
    assert not any(together[-1].disagree)


def test_changes_alone_are_those_of_whole_answers(vlm, full):
    whole = full.of_plans(vlm, PLANS, **SETTINGS)
    changes = full.of_plans(vlm, PLANS, changes_only=True, **SETTINGS)
    assert changes == [outcomes.changes for outcomes in whole]
    assert changes[0].correct_skipped is None


def test_an_answer_ends_where_it_leaves_the_full_models(vlm, full):
    """Steps of decoding: those until the first differing word of the last row to differ."""
    plan, asked = BLOCKS[0], next(batches(vlm, full.items, batch_size=12))
    texts = [full.texts[place] for place in asked.places]
    run = SharedRun(vlm, asked, (plan,), max_new_tokens=6)
    whole = run.ask(plan).texts(vlm)
    short = run.ask(plan, until=Diverged(vlm, texts))
    firsts = [
        next((i for i, pair in enumerate(zip_longest(*both), 1) if pair[0] != pair[1]), 6)
        for both in zip(map(str.split, texts), map(str.split, whole), strict=True)
    ]
    assert min(firsts) < max(firsts)
    assert short.ids.shape[1] == max(firsts)


RED = "a red circle"


@pytest.mark.parametrize(
    ("words", "text", "left"),
    [
        ("a red", RED, False),
        (" a red ", RED, False),
        ("a red \ufffd", RED, False),  # bytes of a character that is not complete
        ("a red \ufffd\ufffd blue", RED, False),  # a tokenizer may yet make red of them
        (RED, RED, False),
        ("a red circle too", RED, True),
        ("a blue", RED, True),
        ("a blue \ufffd", RED, True),
        ("", RED, False),
        ("do n", "don't", False),  # the tokenizer takes the space away when the mark comes
        ("a\u20ac", "a\ufffd\ufffd\ufffd\ufffd", False),  # bytes behind it take it with them
    ],
)
def test_a_text_is_left_when_it_cannot_become_the_other(words, text, left):
    assert has_left(words, text) == left


@pytest.mark.parametrize("decoder", ["byte fallback", "byte level"])
def test_tokens_never_leave_their_own_text(decoder):
    """Random bytes, among them broken characters, cut anywhere: no prefix leaves its text."""
    rng = np.random.default_rng(0)
    if decoder == "byte fallback":
        parts = [Replace("\u2581", " "), ByteFallback(), Fuse(), Strip(" ", 1, 0)]
        made = Sequence(parts).decode
        tokens = [*(f"<0x{byte:02X}>" for byte in range(256)), "\u2581a", "\u2581\u20ac", "."]
        euro = ["<0xE2>", "<0x82>", "<0xAC>"]
    else:
        made, tokens = ByteLevel().decode, ByteLevelTokens.alphabet()
        euro = ["\u00e2", "\u0124", "\u00ac"]
    broken = 0
    for _ in range(500):
        drawn = [tokens[place] for place in rng.integers(len(tokens), size=8)]
        euro = (
            ["<0xE2>", "<0x82>", "<0xAC>"]
            if decoder == "byte fallback"
            else list("\u00e2\u0124\u00ac")
        )
        answer = [*drawn[:2], *euro, *drawn[2:], *euro[: rng.integers(3)]]
        text = made(answer)
        broken += "\ufffd" in text
        assert not any(has_left(made(answer[:n]), text) for n in range(1, len(answer) + 1))
    assert broken > 100


def test_the_order_of_the_plans_does_not_matter(vlm, full):
    there, back = (full.of_plans(vlm, plans, **SETTINGS) for plans in (PLANS, PLANS[::-1]))
    assert there == back[::-1]


@pytest.mark.parametrize("name", [*FULL, "PaliGemma", "Qwen3-VL"])
def test_every_family_gives_the_tokens_of_a_run_from_scratch(name):
    """A padded batch; one block, frozen layer or exit at each depth, behind the full model."""
    vlm = tiny(FAMILIES[name])
    inputs = batch(FAMILIES[name], ("ttIttttt", "Itttttttt", "tIt"))
    asked = Batch(tuple(Item(None, str(i)) for i in range(3)), (0, 1, 2), inputs)
    modes = ("block", "freeze", "early_exit", "late_entry")
    plans = [unit for mode in modes for unit in units(mode, vlm.layout.n_layers)]
    run = SharedRun(vlm, asked, (None, *plans), max_new_tokens=3)
    run.ask(None)
    for plan in plans:
        alone = SharedRun(vlm, asked, (plan,), max_new_tokens=3).ask(plan)
        assert run.ask(plan).ids.tolist() == alone.ids.tolist(), plan.describe()


def test_a_layer_runs_once_for_all_plans_that_leave_it_and_those_before_alone(vlm, full):
    """Prefills of layer i: one of the full model, and one of each plan that starts at or before i.

    A plan that leaves layer j out starts at j, whose own MLP it does not run.
    """
    prompts = Counter()

    def count(name, output):
        if isinstance(name, str) or output.shape[1] > 1:
            prompts[name] += 1

    watched = {"vision": vlm.layout.base.vision_tower}
    watched |= {i: layer.mlp for i, layer in enumerate(vlm.layout.layers)}
    handles = [
        module.register_forward_hook(lambda _, __, out, name=name: count(name, out))
        for name, module in watched.items()
    ]
    try:
        full.of_plans(vlm, BLOCKS, **SETTINGS)
    finally:
        for handle in handles:
            handle.remove()
    batches = 3
    assert prompts == {"vision": batches} | {i: batches * (1 + i) for i in range(4)}


def test_finished_batches_are_not_run_again(vlm, full, tmp_path, monkeypatch):
    made = full.of_plans(vlm, PLANS, folder=tmp_path, **SETTINGS)
    (file,) = tmp_path.iterdir()
    kept = file.read_text().splitlines(keepends=True)
    file.write_text("".join(kept[:-1]))
    asked = []
    ask = SharedRun.ask
    monkeypatch.setattr(
        SharedRun, "ask", lambda run, plan, **kw: (asked.append(plan), ask(run, plan, **kw))[1]
    )
    assert full.of_plans(vlm, PLANS, folder=tmp_path, **SETTINGS) == made
    assert asked == [None, *PLANS[:-1]]  # one batch
    full.of_plans(vlm, PLANS[1:], folder=tmp_path, **SETTINGS)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_plan_that_the_model_cannot_do_is_refused_before_any_runs(vlm, full, monkeypatch):
    monkeypatch.setattr(SharedRun, "ask", lambda *_: pytest.fail("ran"))
    with pytest.raises(BridgeError, match="7 layers"):
        full.of_plans(vlm, [FREEZE, SkipPlan("block", 7, layers=(1,))], **SETTINGS)


def test_no_plans_are_refused(vlm, full):
    with pytest.raises(BridgeError, match="of_plans was given no plans"):
        full.of_plans(vlm, [], **SETTINGS)


def test_the_full_model_reads_the_prompts_of_several_plans_and_decodes_nothing(vlm, full):
    """Passes of its last layer's MLP, which both plans run: a prompt each, and steps behind it."""
    passes = []
    handle = vlm.layout.layers[3].mlp.register_forward_hook(lambda *_: passes.append(1))

    def count(plans):
        passes.clear()
        full.of_plans(vlm, plans, **SETTINGS)
        return len(passes)

    try:
        one, other, both = count(BLOCKS[:1]), count(BLOCKS[1:2]), count(BLOCKS[:2])
    finally:
        handle.remove()
    assert both == one + other + 3  # three batches, whose prompts the full model reads
