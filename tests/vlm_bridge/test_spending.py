"""Delta is announced as the ledger would grant it, and not spent by runs that answer nothing."""

from __future__ import annotations

import pytest
import torch

from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.certify import certify, certify_both
from vlm_bridge.model.finite import BrokenModel
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.ledger import Ledger
from vlm_bridge.selection import search
from vlm_bridge.skip.export import prune

PLAN = SkipPlan("freeze", 4, layers=(3,))
SHORT = {"max_new_tokens": 2}


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.jsonl", delta=0.05)


def broken(value=float("nan")):
    vlm = tiny_llava()
    with torch.no_grad():
        vlm.layout.layers[2].mlp.down_proj.weight.view(-1)[0] = value
    return vlm


def truncated(items, tmp_path):
    """The questions, the last of them about an image of which half is lost."""
    content = items[-1].image.read_bytes()
    path = tmp_path / "cut.png"
    path.write_bytes(content[: len(content) // 2])
    return [*items[:-1], Item(path, items[-1].question)]


def test_the_announced_reach_is_that_of_the_granted_delta(items, ledger, caplog):
    ledger.path.parent.mkdir(exist_ok=True)
    for run in (certify, certify_both):
        caplog.clear()
        made = run(tiny_llava(), items, PLAN, ledger=ledger, delta=0.03, **SHORT)
        granted = (made if run is certify else made[0]).delta
        (said,) = [r.message for r in caplog.records if "within reach" in r.message]
        assert f"(no answer changes, delta {granted:g})" in said
    assert granted == 0.01  # half of what the first certificate has left


def test_a_search_announces_what_is_left(items, ledger, caplog):
    certify(tiny_llava(), items[3:], PLAN, ledger=ledger, delta=0.03, **SHORT)
    vlm = tiny_llava()
    caplog.clear()
    search(vlm, items[:3], items[3:], [PLAN], epsilon=0.9, ledger=ledger, **SHORT)
    (said,) = [r.message for r in caplog.records if "within reach" in r.message]
    assert "delta 0.02); by the ledger a new search on these images gets delta 0.02, not" in said
    caplog.clear()
    layer = [SkipPlan("freeze", 4, layers=(2,))]
    with pytest.raises(BridgeError, match="leaves no delta"):
        search(vlm, items[:3], items[3:], layer, epsilon=0.99, ledger=ledger, **SHORT)
    assert "leaves no delta for this data" in caplog.text
    assert "within reach" not in caplog.text  # no delta, no epsilon


def test_a_search_on_a_broken_ledger_runs_no_model(items, ledger):
    ledger.path.write_text("broken\n")
    vlm = tiny_llava()
    vlm.model.forward = None
    with pytest.raises(BridgeError, match="is no line of a ledger"):
        search(vlm, items[:3], items[3:], [PLAN], epsilon=0.9, ledger=ledger, **SHORT)


@pytest.mark.parametrize("run", [certify, certify_both])
def test_a_run_without_answers_spends_nothing(items, ledger, tmp_path, run):
    with pytest.raises(BrokenModel):
        run(broken(), items, PLAN, ledger=ledger, **SHORT)
    with pytest.raises(BridgeError, match="cannot read the image"):
        run(tiny_llava(), truncated(items, tmp_path), PLAN, ledger=ledger, batch_size=1, **SHORT)
    with pytest.raises(BridgeError, match="at least 1 token"):
        run(tiny_llava(), items, PLAN, ledger=ledger, max_new_tokens=0)
    assert not ledger.path.exists()


def test_a_drop_without_labels_spends_nothing(items, ledger):
    unlabelled = [Item(item.image, item.question) for item in items]
    with pytest.raises(BridgeError, match="needs answers in the data"):
        certify(tiny_llava(), unlabelled, PLAN, quantity="accuracy_drop", ledger=ledger, **SHORT)
    assert not ledger.path.exists()


def test_a_search_without_answers_spends_nothing(items, ledger, tmp_path):
    cut = truncated(items, tmp_path)
    with pytest.raises(BridgeError, match="cannot read the image"):
        search(tiny_llava(), cut[:3], cut[3:], [PLAN], epsilon=0.9, ledger=ledger, **SHORT)
    assert not ledger.path.exists()


def test_skipped_answers_cost_delta(items, ledger, monkeypatch):
    """A run that is killed after the first answers of a skipped model has spent its delta."""
    from vlm_bridge.evaluate import certify as module

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "paired_outcomes", killed)
    with pytest.raises(KeyboardInterrupt):
        certify(tiny_llava(), items, PLAN, ledger=ledger, **SHORT)
    assert len(ledger.path.read_text().splitlines()) == 2


def test_an_empty_plan_says_that_it_skips_nothing(items):
    made = certify(tiny_llava(), items, SkipPlan("block", 4), epsilon=0.9, **SHORT)
    assert "the plan skips nothing" in made.sentence()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_layer_is_exported_only_if_it_is_skipped(tmp_path, value):
    vlm = broken(value)
    said = r"weights of layer 2 are (NaN|infinite) \(\S+down_proj\.weight\)"
    with pytest.raises(BrokenModel, match=said):
        prune(vlm, SkipPlan("block", 4, layers=(1,)), tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
    prune(vlm, SkipPlan("block", 4, layers=(2,)), tmp_path / "skipped")


def test_an_unknown_method_lists_all_choices(items):
    with pytest.raises(BridgeError, match="unknown method 'foo'; choose from auto, label-free, an"):
        certify_both(tiny_llava(), items, PLAN, method="foo", **SHORT)
