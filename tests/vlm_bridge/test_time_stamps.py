"""A Whisper that writes time stamps reads every recording once, and answers for each of them.

Skipped layers make it write them; its `generate` then goes back in the recording and decodes again,
for some recordings only.
"""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from transformers import GenerationMixin

from tests.vlm_bridge.families.stacks import StackCase, model
from tests.vlm_bridge.words import Words
from vlm_bridge.cost import cost_of_inputs
from vlm_bridge.evaluate.answers import answer_batch
from vlm_bridge.model.encoder_decoder import one_call, with_own_answer
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping

#: Ids from here on are time stamps of the tiny model.
FIRST = 20


@pytest.fixture
def whisper(monkeypatch):
    """A tiny Whisper whose answers hold time stamps, with the calls of the inner `generate`."""
    made = copy.deepcopy(model("Whisper"))
    made.generation_config.no_timestamps_token_id = FIRST - 1
    made.generation_config.eos_token_id = 1
    ids = torch.arange(made.config.vocab_size)

    def more_stamps(module, args, output):
        output.logits = output.logits + 4.0 * (ids >= FIRST) * (ids % 3 == 0)
        return output

    made.register_forward_hook(more_stamps)
    calls, inner = [], GenerationMixin.generate

    def counted(self, *args, **kwargs):
        calls.append(1)
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(GenerationMixin, "generate", counted)
    return VLM.of("Whisper", made, Words()), calls


def inputs(n):
    return StackCase("Whisper", "audio").inputs(n)


def test_the_inner_generate_runs_more_than_once_by_itself(whisper):
    """Or the tests below say nothing."""
    vlm, calls = whisper
    with contextlib.suppress(Exception):
        vlm.model.generate(**inputs(6), max_new_tokens=8, return_dict_in_generate=True)
    assert len(calls) > 1


@pytest.mark.parametrize("plan", [None, SkipPlan("sublayer", 4, stack="audio", attention=(0, 1))])
def test_every_recording_has_its_answer_in_any_batch(whisper, plan):
    vlm, calls = whisper
    with contextlib.nullcontext() if plan is None else skipping(vlm, plan):
        whole = answer_batch(vlm, Batch((), tuple(range(6)), inputs(6)), max_new_tokens=8)
        assert len(calls) == 1
        assert len(whole.texts) == len(whole.log_probs) == len(whole.at_limit) == 6
        for row in range(6):
            alone = {name: value[row : row + 1] for name, value in inputs(6).items()}
            one = answer_batch(vlm, Batch((), (0,), alone), max_new_tokens=8)
            assert one.texts[0] == whole.texts[row]
    assert len(calls) == 7


def test_profiles_and_costs_read_a_recording_once_too(whisper):
    vlm, calls = whisper
    own = with_own_answer(vlm, inputs(3), 6)
    assert len(own["decoder_input_ids"]) == 3
    assert len(calls) == 1
    cost = cost_of_inputs(vlm, inputs(3), SkipPlan("block", 4, layers=(1,)), pairs=2, tokens=3)
    assert cost.decode is not None


def test_other_models_take_no_such_argument():
    assert one_call(StackCase("BART", "decoder").vlm) == {}
