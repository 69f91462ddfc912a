"""The full model is the full model: not while it skips, not with beams, not with other layers."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch

from tests.vlm_bridge.tiny import picture, tiny_llava
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import answer
from vlm_bridge.evaluate.certify import certify
from vlm_bridge.evaluate.compare import compare
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.sweep import sweep
from vlm_bridge.model import settings
from vlm_bridge.observe.profile import profile
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping

PLAN, EMPTY = SkipPlan("block", 4, layers=(1,)), SkipPlan("block", 4)


@pytest.fixture
def items(tmp_path):
    for number in range(3):
        picture(number).save(tmp_path / f"{number}.png")
    return [Item(tmp_path / f"{n}.png", "is there a circle ?", "yes") for n in range(3)]


@pytest.mark.parametrize(
    "run",
    [
        lambda vlm, items: FullAnswers.ask(vlm, items, max_new_tokens=2),
        profile,
        lambda vlm, items: compare(vlm, items, EMPTY, max_new_tokens=2),
        lambda vlm, items: certify(vlm, items, EMPTY, max_new_tokens=2),
        lambda vlm, items: sweep(vlm, items, [EMPTY]),
    ],
    ids=["ask", "profile", "compare", "certify", "sweep"],
)
def test_a_skipping_model_is_not_taken_for_the_full_one(run, items):
    vlm = tiny_llava()
    with (
        skipping(vlm, PLAN),
        pytest.raises(BridgeError, match="is skipping at present, so what it gives is not of the"),
    ):
        run(vlm, items)


def test_no_plan_begins_while_the_full_model_runs(items):
    vlm, inside, go_on = tiny_llava(), Event(), Event()
    expected = answer(vlm, items, max_new_tokens=2)

    def wait(*_):
        inside.set()
        go_on.wait(60)

    def ask():
        return FullAnswers.ask(vlm, items, max_new_tokens=2)

    with vlm.layout.layers[0].register_forward_hook(wait), ThreadPoolExecutor(2) as pool:
        both = [pool.submit(ask), pool.submit(ask)]  # full runs do not disturb each other
        assert inside.wait(60)
        with pytest.raises(BridgeError, match=r"the full model \w+ is being run"):
            skipping(vlm, PLAN).__enter__()
        go_on.set()
        assert [list(run.result().texts) for run in both] == [expected, expected]
    with skipping(vlm, PLAN):
        answer(vlm, items, max_new_tokens=2)


def test_answers_are_greedy_whatever_the_checkpoint_says(items):
    vlm = tiny_llava()
    expected = answer(vlm, items, max_new_tokens=4)
    for setting, value in (("num_beams", 3), ("do_sample", True), ("temperature", 3.0)):
        setattr(vlm.model.generation_config, setting, value)
    assert answer(vlm, items, max_new_tokens=4) == expected


@pytest.mark.parametrize("setting", settings._NOT_GREEDY)
def test_settings_under_which_answers_are_not_greedy_are_refused(setting, items):
    vlm = tiny_llava()
    vlm.model.generation_config = copy.deepcopy(vlm.model.generation_config)
    for harmless in settings._NOT_GREEDY[setting]:
        setattr(vlm.model.generation_config, setting, harmless)
        settings.check_greedy(vlm.name, vlm.model)
    setattr(vlm.model.generation_config, setting, 7)
    with pytest.raises(BridgeError, match=rf"generation_config of .* sets {setting}=7"):
        answer(vlm, items, max_new_tokens=2)


def test_layers_replaced_after_loading_are_noticed():
    vlm = tiny_llava()
    vlm.layout.decoder.layers = torch.nn.ModuleList(vlm.layout.layers)
    with pytest.raises(BridgeError, match=r"was replaced after it was loaded.*VLM\.of"):
        with skipping(vlm, PLAN):
            pass
