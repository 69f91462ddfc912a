"""Prompts of several images and turns: their order, batches of ragged rows, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import vlm_bridge as vb
from tests.vlm_bridge.adapters import tuned
from tests.vlm_bridge.families.processors import PROCESSORS, paligemma, with_processor
from tests.vlm_bridge.tiny import picture, tiny_llava
from vlm_bridge.data import Item, Turn, link_units
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.baselines import with_other_inputs
from vlm_bridge.evaluate.controls import with_coarser_images
from vlm_bridge.model.dialogue import prompt_text
from vlm_bridge.model.prompts import batches, collate

#: Rows of one, two and three images, with text before, between and behind, and an earlier turn.
RAGGED = [
    Item.of("is the", picture(0), "circle not", picture(1), "?", answer="yes"),
    Item.of(picture(2), "red ?"),
    Item.of(picture(3), picture(4), picture(5), "what is the blue shape ?"),
    Item.of(
        *("is", picture(6), "a square ?"),
        turns=(Turn("user", (picture(7), "what is the shape ?")), Turn("assistant", "circle")),
    ),
]
PLANS = ("freeze 1-2", "early_exit 2", "late_entry 1", "block 2", "token_pruning after=1 keep=0.5")


@pytest.fixture(scope="module")
def models():
    found = {name: with_processor(name) for name in PROCESSORS}
    qwen = found["Qwen2.5-VL"].processor  # whose own template ends every image with a token
    qwen.chat_template = qwen.chat_template.replace("<|image_pad|>", "<|image_pad|> user")
    return found


@torch.no_grad()
def tokens(vlm, inputs, **options):
    made = vlm.model.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=4,
        min_new_tokens=4,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return made.sequences[:, -4:], torch.stack(made.logits, 1)


@pytest.mark.parametrize("family", PROCESSORS)
def test_both_forms_agree_on_ragged_rows(models, family):
    vlm = models[family]
    (batch,) = batches(vlm, RAGGED, batch_size=8)
    full, _ = tokens(vlm, batch.inputs)
    differ = 0
    for words in PLANS:
        found = []
        for fast in (True, False):
            with vb.skipping(vlm, words, fast=fast):
                found.append(tokens(vlm, batch.inputs))
        assert torch.equal(found[0][0], found[1][0]), words
        torch.testing.assert_close(found[0][1], found[1][1], atol=1e-4, rtol=1e-4)
        differ += not torch.equal(found[0][0], full)
    assert differ  # a plan that changes nothing would show nothing


@pytest.mark.parametrize("family", PROCESSORS)
@pytest.mark.parametrize("words", [None, "freeze 1-2", "early_exit 2"])
def test_rows_answer_as_they_do_alone(models, family, words):
    vlm = models[family]
    with vb.skipping(vlm, words or "block layers=0") if words else vlm.whole():
        (batch,) = batches(vlm, RAGGED, batch_size=8)
        together, logits = tokens(vlm, batch.inputs)
        for place, row in enumerate(together):
            alone, of_alone = tokens(vlm, collate(vlm, RAGGED, [place]).inputs)
            assert torch.equal(alone[0], row)
            torch.testing.assert_close(of_alone[0], logits[place], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("family", PROCESSORS)
def test_each_image_has_its_places(models, family):
    vlm = models[family]
    (batch,) = batches(vlm, RAGGED, batch_size=8)
    flags = vlm.layout.modality_flags(batch.inputs["input_ids"])
    one = int(flags[1].sum())
    assert flags.sum(1).tolist() == [2 * one, one, 3 * one, 2 * one]
    runs = [int((row[1:] & ~row[:-1]).sum()) for row in flags]
    assert runs[0] == 2  # there is text between the two


@pytest.mark.parametrize("family", ["LLaVA", "SmolVLM", "Qwen2.5-VL"])
def test_the_order_of_images_counts(models, family):
    vlm = models[family]
    first, second = picture(0), picture(1)
    one = Item.of("is the", first, "circle not", second, "?")
    other = Item.of("is the", second, "circle not", first, "?")
    logits = []
    for item in (one, other):
        inputs = collate(vlm, [item], [0]).inputs
        with torch.no_grad():
            logits.append(vlm.model(**inputs).logits[:, -1])
    assert not torch.allclose(*logits, atol=1e-3)


def test_pixels_come_in_the_order_of_the_prompt(models):
    vlm = models["LLaVA"]
    shown = collate(vlm, RAGGED, [0, 1, 2, 3]).inputs["pixel_values"]
    alone = [Item.of(picture(n), "red ?") for n in (0, 1, 2, 3, 4, 5, 7, 6)]  # a turn comes first
    assert torch.equal(shown, collate(vlm, alone, range(8)).inputs["pixel_values"])


def test_with_adapters_of_peft(tmp_path):
    vlm = vb.wrap(tuned(tiny_llava().model), tiny_llava().processor, name="tuned")
    (batch,) = batches(vlm, RAGGED, batch_size=8)
    for words in PLANS:
        found = []
        for fast in (True, False):
            with vb.skipping(vlm, words, fast=fast):
                found.append(tokens(vlm, batch.inputs)[0])
        assert torch.equal(*found), words


def test_verbs_take_several_images(tmp_path):
    vlm = tiny_llava()
    items = [
        Item.of("is the", picture(n), "circle not", picture(n + 50), "?", answer="yes")
        for n in range(6)
    ]
    certificate = vb.certify(vlm, items, "freeze 1-2", epsilon=0.5)
    assert certificate.n_images == 6
    chained = [replace(item, cluster="") for item in items] + [
        Item.of(picture(n), picture(n + 1), "is red ?") for n in range(5)
    ]
    with pytest.raises(BridgeError, match="link_units"):
        vb.certify(vlm, chained, "freeze 1-2")
    with pytest.raises(BridgeError, match="at least 2 units, got 1; questions that share an image"):
        vb.compare(vlm, link_units(chained), "freeze 1-2")  # all of them are one unit


def test_nulls_and_controls_keep_the_number_of_images(tmp_path):
    items = [Item.of("is", picture(n), "or", picture(n + 50), "?", answer="yes") for n in range(3)]
    for made in (with_other_inputs(items), with_coarser_images(items, 0.25, tmp_path)):
        assert [len(item.images) for item in made] == [2, 2, 2]
        assert all(a.images != b.images for a, b in zip(made, items, strict=True))
        assert [item.question for item in made] == [item.question for item in items]


def test_a_prompt_without_images_keeps_its_texts(models):
    vlm = models["LLaVA"]
    text = prompt_text(vlm.processor, RAGGED[0], {"text"})
    assert "<image>" not in text
    assert text.split() == "user : is the circle not ?".split()


SPOKEN = (
    "{% for m in messages %}[{{ m['role'] }}]{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
USERS = SPOKEN.replace("[{{ m['role'] }}]", "{% if m['role'] != 'user' %}{% continue %}{% endif %}")
STRICT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
)


def templated(template):
    made = PROCESSORS["LLaVA"][0]()
    made.chat_template = template
    return made


def test_roles_and_parts_stand_in_order():
    item = Item.of(
        *("is ", picture(0), " a square ?"),
        system="be short",
        turns=(Turn("user", (picture(1), "shape ?")), Turn("assistant", "circle")),
    )
    text = prompt_text(templated(SPOKEN), item, {"image"})
    assert text == (
        "[system]be short[user]<image>shape ?[assistant]circle"
        "[user]is <image> a square ?[assistant]"
    )


def test_templates_that_drop_or_refuse_a_role_are_named():
    item = Item.of(picture(0), "red ?", system="be short")
    with pytest.raises(BridgeError, match="LlavaProcessor leaves out 'be short' of the system"):
        prompt_text(templated(USERS), item, {"image"})
    with pytest.raises(BridgeError, match="refuses the roles system, user: no system role"):
        prompt_text(templated(STRICT + SPOKEN), item, {"image"})


def test_without_a_template_there_are_no_roles():
    processor = paligemma()
    assert prompt_text(processor, Item.of(picture(0), "red ?"), {"image"}) == "<image>red ?"
    several = Item.of(picture(0), picture(1), "red ?")
    assert prompt_text(processor, several, {"image"}) == "<image><image>red ?"
    with pytest.raises(BridgeError, match="has no chat template, so that the earlier turns of"):
        prompt_text(processor, Item.of(picture(0), "red ?", system="short"), {"image"})


def test_placeholders_in_any_text_are_refused(models):
    turns = (Turn("user", "a <image> b"), Turn("assistant", "yes"))
    for item in (Item.of("<image>", picture(0), "?"), Item.of(picture(0), "?", turns=turns)):
        with pytest.raises(BridgeError, match="contains '<image>', which stands for an image"):
            prompt_text(models["LLaVA"].processor, item, {"image"})


def test_a_tokenizer_takes_turns_of_text():
    tokenizer = PROCESSORS["LLaVA"][0]().tokenizer
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    )
    turns = (Turn("user", "red ?"), Turn("assistant", "no"))
    text = prompt_text(tokenizer, Item.of("blue ?", system="short", turns=turns), {"text"})
    assert text == "[system]short[user]red ?[assistant]no[user]blue ?"


def test_a_recording_stands_before_the_question():
    processor = SimpleNamespace(
        chat_template="x",
        tokenizer=None,
        apply_chat_template=lambda chat, **_: " ".join(
            part.get("text", part["type"]) for turn in chat for part in turn["content"]
        ),
    )
    item = Item.of(picture(0), "what is said?", audio="a.wav")
    assert prompt_text(processor, item, {"image", "audio"}) == "image audio what is said?"
