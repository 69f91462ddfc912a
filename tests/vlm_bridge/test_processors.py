"""Real processors make the inputs; answers, profiles and plans work from there on."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace

import pytest
import torch
from PIL import Image

from tests.vlm_bridge.families.configs import IMAGE
from tests.vlm_bridge.families.processors import PROCESSORS, paligemma, with_processor
from tests.vlm_bridge.families.table import FAMILIES, tiny
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import answer
from vlm_bridge.model.prompts import batch_places, batches
from vlm_bridge.model.vlm import VLM, load
from vlm_bridge.observe.profile import profile
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping

L = 4
each_family = pytest.mark.parametrize("name", PROCESSORS)
#: One whose pixels are images and one whose pixels are patches in the fast tier.
each_family_slow = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("LLaVA", "Qwen2.5-VL") else pytest.mark.slow)
        for name in PROCESSORS
    ],
)
#: What each family's model takes beside ids, mask and pixels.
MORE = {
    "LLaVA": set(),
    "LLaVA-NeXT": {"image_sizes"},
    "DeepSeek-VL": set(),
    "Qwen2.5-VL": {"image_grid_thw", "mm_token_type_ids"},
    "SmolVLM": {"pixel_attention_mask"},
    "Gemma3": {"token_type_ids"},
}


def answers(vlm, items, **options):
    """Short answers: the tests of `answer` have longer ones."""
    return answer(vlm, items, batch_size=4, max_new_tokens=8, **options)


@each_family
def test_batches(name, items):
    vlm = with_processor(name)
    made = list(batches(vlm, items, batch_size=4))
    assert sum(len(batch.items) for batch in made) == len(items)
    for batch in made:
        inputs = batch.inputs
        assert set(inputs) == {"input_ids", "attention_mask", "pixel_values"} | MORE[name]
        assert (inputs["input_ids"] == IMAGE).sum(1).tolist() == [FAMILIES[name].tokens] * len(
            batch.items
        )
        assert inputs["attention_mask"][:, -1].all()  # padded on the left
        vlm.model(**inputs)
    if name == "Gemma3":
        assert torch.equal(inputs["token_type_ids"] == 1, inputs["input_ids"] == IMAGE)


@each_family_slow
def test_answers_with_and_without_a_plan(name, items):
    vlm = with_processor(name)
    texts = answers(vlm, items)
    assert len(texts) == len(items)
    # Padding and company in a batch change nothing.
    assert texts == [answers(vlm, [item])[0] for item in items]
    assert answers(vlm, items, with_images=False) != texts
    for plan in (SkipPlan("block", L, layers=(0, 2)), SkipPlan("band", L, entry=1, exit=3)):
        with skipping(vlm, plan):
            fast = answers(vlm, items)
        with skipping(vlm, plan, fast=False):
            assert answers(vlm, items) == fast


@each_family
def test_profile(name, items):
    found = profile(with_processor(name), items, batch_size=4)
    assert found.values("image", "cosine_distance").shape == (L,)
    assert (found.values("text", "cosine_distance") > 0).all()


@each_family
def test_load_from_disk(name, tmp_path, items):
    """Saved and loaded, without torchvision too; `auto` places it, `eager` is what it runs."""
    vlm = with_processor(name)
    vlm.model.save_pretrained(tmp_path)
    vlm.processor.save_pretrained(tmp_path)
    found = load(tmp_path, device="auto", attention="eager")
    assert type(found.processor).__name__ == type(vlm.processor).__name__
    assert found.layout.text_config._attn_implementation == "eager"
    assert found.layout.image_ids == (IMAGE,)
    assert set(found.layout.special_ids) == set(vlm.layout.special_ids)
    assert answers(found, items) == answers(vlm, items)


def test_torchvision_is_not_here():
    """Else the tests above would not show that it is not needed."""
    assert importlib.util.find_spec("torchvision") is None


def test_batch_places(items):
    """An image's questions stay together; here images have 1, 2, 3, 1, 2 of them."""
    assert batch_places(items, 4) == [[0, 1, 2], [3, 4, 5, 6], [7, 8]]
    with pytest.raises(BridgeError, match="there are no items to run on"):
        batch_places([], 4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # transformers'
def test_a_base_model_without_chat_template(items):
    processor = paligemma()
    family = tiny(FAMILIES["PaliGemma"])
    vlm = VLM("base", family.model, processor, family.layout)
    (batch,) = batches(vlm, items[:2], batch_size=4)
    assert (batch.inputs["input_ids"] == IMAGE).sum(1).tolist() == [4, 4]
    assert "labels" not in batch.inputs  # its processor makes some
    assert not batch.inputs["token_type_ids"].any()  # all prompt, seen in both directions
    with pytest.raises(BridgeError, match="PaliGemmaProcessor cannot make a prompt without an"):
        list(batches(vlm, items, with_images=False))


def with_template(template: str) -> VLM:
    vlm = with_processor("LLaVA")
    vlm.processor.chat_template = template
    return vlm


def test_a_template_that_begins_the_text_itself(items):
    """The tokenizer would begin it once more."""
    vlm = with_template("<unk><image> {{ messages[0]['content'][-1]['text'] }}")
    seen = {}

    class Recorder(type(vlm.processor)):
        def __call__(self, **options):
            seen.update(options)
            return super().__call__(**options)

    vlm.processor.__class__ = Recorder
    list(batches(vlm, items[:1]))
    assert "add_special_tokens" not in seen
    vlm.processor.tokenizer.bos_token = "<unk>"
    list(batches(vlm, items[:1]))
    assert seen["add_special_tokens"] is False


def test_a_template_without_images_is_refused(items):
    vlm = with_template("{{ messages[0]['content'][-1]['text'] }}")
    with pytest.raises(BridgeError) as error:
        list(batches(vlm, items[:1]))
    assert str(error.value) == (
        "LlavaProcessor cannot make a prompt with an image: The total number of <image> tokens in "
        "the prompts should be the same as the number of images passed. Found total 0 <image> "
        "tokens and 1 images."
    )


def test_a_broken_image_is_refused_by_name(items, tmp_path):
    path = tmp_path / "empty.png"
    path.write_bytes(b"")
    with pytest.raises(BridgeError, match=r"cannot read the image .*empty\.png"):
        list(batches(tiny_llava(), [replace(items[0], image=path)]))
    Image.new("RGB", (16, 16)).save(path)
    assert len(list(batches(tiny_llava(), [replace(items[0], image=path)]))) == 1


def test_a_question_with_the_token_of_an_image_is_refused(items):
    """It would move every image of the batch by one."""
    asked = replace(items[0], question="is there a circle in <image> ?")
    with pytest.raises(BridgeError, match=r"'is there a circle in <image> \?' contains '<image>'"):
        list(batches(with_processor("LLaVA"), [items[1], asked]))


@pytest.mark.parametrize(
    ("name", "stands_for"),
    [
        ("image_token", "an image"),
        ("boi_token", "an image"),
        ("video_token", "a video"),
        ("audio_token", "audio"),
        ("boa_token", "audio"),
    ],
)
def test_a_question_holds_no_token_that_stands_for_something_else(
    name, stands_for, items, monkeypatch
):
    vlm = tiny_llava()
    token = getattr(vlm.processor, name, None) or "<other>"
    monkeypatch.setattr(vlm.processor, name, token, raising=False)
    typed = [replace(items[0], question=f"what is in {token} ?")]
    says = f"contains '{token}', which stands for {stands_for} in prompts of LlavaProcessor; leave"
    for with_images in (True, False):
        with pytest.raises(BridgeError, match=re.escape(says)):
            next(batches(vlm, typed, with_images=with_images))
