"""Settings in the inputs of lossless generation: each honoured one does what `generate` does."""

from __future__ import annotations

import pytest
import torch
from transformers import GenerationConfig, LogitsProcessorList
from transformers.generation import SequenceBiasLogitsProcessor

import vlm_bridge as vb
from tests.vlm_bridge.tiny import batch, tiny_llava
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip.lossless.options import HONOURED, options_of

BLOCK = SkipPlan("block", 4, layers=(1,))
TOKENS = 10
#: A value of each setting with which answers of the tiny model are others, where it can be so.
VALUES = {
    "bad_words_ids": [[7], [11], [13]],
    "begin_suppress_tokens": [0, 7, 11],
    "encoder_no_repeat_ngram_size": 1,
    "encoder_repetition_penalty": 9.0,
    "eos_token_id": [1, 7, 13],
    "exponential_decay_length_penalty": (2, 3.0),
    "forced_eos_token_id": 7,
    "logits_processor": LogitsProcessorList([SequenceBiasLogitsProcessor([[[9], 99.0]])]),
    "min_length": 20,
    "min_new_tokens": 9,
    "no_repeat_ngram_size": 1,
    "prefix_allowed_tokens_fn": lambda row, ids: [3 + row, 4 + row, 5 + len(ids) % 7],
    "renormalize_logits": True,
    "repetition_penalty": 5.0,
    "sequence_bias": [[[8], 99.0]],
    "suppress_tokens": [7, 11, 13],
}
#: Settings of the tiny model that change nothing here: of sampling, of other models, or padding.
WITHOUT_EFFECT = {
    "bos_token_id": 2,
    "epsilon_cutoff": 0.1,
    "eta_cutoff": 0.1,
    "forced_bos_token_id": 6,
    "min_p": 0.5,
    "pad_token_id": 0,
    "remove_invalid_values": True,
    "top_h": 0.5,
    "typical_p": 0.5,
}


@pytest.fixture(scope="module")
def plain():
    """The answers without any setting."""
    return both({}, "ragged")[0]


def both(given, rows):
    """Answers of lossless generation and of `generate`, up to the end that the latter found."""
    vlm = tiny_llava()
    assert vlm.model.generation_config.eos_token_id == 1
    inputs = {**batch(rows), **given}
    found = vb.generate_lossless(vlm, inputs, BLOCK, draft_tokens=3, max_new_tokens=TOKENS).tokens
    made = vlm.model.generate(**inputs, do_sample=False, max_new_tokens=TOKENS)
    wanted = made[:, inputs["input_ids"].shape[1] :].tolist()
    wanted = tuple(tuple(row[: len(f)]) for row, f in zip(wanted, found, strict=True))
    return found, wanted, made


def test_every_honoured_setting_is_tried():
    assert set(VALUES) | set(WITHOUT_EFFECT) == set(HONOURED)


@pytest.mark.parametrize("rows", ["single", "ragged"])
@pytest.mark.parametrize("name", [*VALUES, *WITHOUT_EFFECT])
def test_a_setting_does_what_generate_does(name, rows):
    value = {**VALUES, **WITHOUT_EFFECT}[name]
    found, wanted, made = both({name: value}, rows)
    assert found == wanted
    longest = max(len(row) for row in found)
    assert longest == made.shape[1] - batch(rows)["input_ids"].shape[1]
    if name not in ("logits_processor", "prefix_allowed_tokens_fn"):
        config = GenerationConfig(**{"eos_token_id": 1, "pad_token_id": 0, name: value})
        assert both({"generation_config": config}, rows)[0] == found


@pytest.mark.parametrize("name", [name for name in VALUES if name != "renormalize_logits"])
def test_the_tried_values_have_an_effect(name, plain):
    assert both({name: VALUES[name]}, "ragged")[0] != plain


def test_harmless_settings_are_left_out():
    given = {"input_ids": torch.ones(1, 2), "num_beams": 1, "max_time": None, "use_cache": True}
    assert set(options_of({**given, "stopping_criteria": [], "guidance_scale": 1})) == {"input_ids"}
    assert both({**given, "input_ids": batch("single")["input_ids"]}, "single")[0]
