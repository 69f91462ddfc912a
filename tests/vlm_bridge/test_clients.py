"""Other people's ways to run a model, under a plan: the fast form says what the plain form says."""

from __future__ import annotations

import asyncio
import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import pytest
import torch
from torch import nn
from transformers import TextIteratorStreamer, pipeline

import vlm_bridge as vb
from tests.vlm_bridge.asking import CHAT, body, inside, text_of
from tests.vlm_bridge.families import FAMILIES, batch, tiny
from tests.vlm_bridge.families.configs import IMAGE, VIDEO
from tests.vlm_bridge.quantised import Int8, quantised
from tests.vlm_bridge.tiny import asked_pictures, picture, processor, tiny_llava
from tests.vlm_bridge.tiny import batch as llava_batch
from vlm_bridge.errors import BridgeError
from vlm_bridge.server.settings import ServerSettings

#: Whole models under every client take a minute.
pytestmark = pytest.mark.slow

PLANS = [
    "block 1,3",
    "freeze 1-2",
    "vision_attention 0-3",
    "vision_mlp 0-3",
    "sublayer attention=1 mlp=2",
    "early_exit 1",
    "late_entry 2",
    "token_pruning after=1 keep=0.5",
    "progressive_pruning stages=1:0.75,2:0.5",
]
each_plan = pytest.mark.parametrize("words", PLANS)
GREEDY = {"max_new_tokens": 8, "do_sample": False}


@pytest.fixture
def vlm():
    return tiny_llava()


def both_forms(vlm, words, run):
    """What `run` gives under the fast form, which is what it gives under the plain form."""
    found = []
    for fast in (True, False):
        with vb.skipping(vlm, words, fast=fast):
            found.append(run())
    assert found[0] == found[1]
    return found[0]


def chat(number: int) -> list[dict]:
    texts = ("is there a circle ?", "what is red ?", "is the shape blue ? not red")
    parts = [{"type": "image", "image": picture(number)}, {"type": "text", "text": texts[number]}]
    return [{"role": "user", "content": parts}]


# pipeline


def pipe_of(vlm):
    """The pipeline of a user, whose tokenizer pads on the left."""
    padding = copy.deepcopy(vlm.processor)
    padding.tokenizer.padding_side = "left"
    return pipeline("image-text-to-text", model=vlm.model, processor=padding)


@each_plan
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_pipeline_of_transformers(vlm, words, batch_size):
    pipe = pipe_of(vlm)
    chats = [chat(number) for number in range(3)]

    def run():
        options = {"return_full_text": False, "batch_size": batch_size}
        said = pipe(text=chats, generate_kwargs=GREEDY, **options)
        return [one[0]["generated_text"].strip() for one in said]

    items = [vb.Item.of(picture(n), chat(n)[0]["content"][1]["text"]) for n in range(3)]
    with vb.skipping(vlm, words):
        ours = vb.answer(vlm, items, batch_size=batch_size, max_new_tokens=8)
    assert both_forms(vlm, words, run) == ours


def test_the_plans_change_what_the_pipeline_says(vlm):
    pipe = pipe_of(vlm)

    def run():
        said = pipe(text=[chat(n) for n in range(3)], generate_kwargs=GREEDY)
        return [one[0]["generated_text"][-1]["content"] for one in said]

    full = run()
    assert sum(both_forms(vlm, words, run) != full for words in PLANS) >= 6
    assert run() == full


# streamer


@each_plan
def test_a_streamer_in_another_thread(vlm, words):
    """The caller reads the pieces while a thread generates."""
    inputs = llava_batch("single")

    def run():
        streamer = TextIteratorStreamer(vlm.tokenizer, skip_prompt=True, timeout=30)
        options = {**inputs, **GREEDY, "streamer": streamer}
        thread = Thread(target=vlm.model.generate, kwargs=options)
        thread.start()
        pieces = list(streamer)
        thread.join()
        return pieces

    pieces = both_forms(vlm, words, run)
    with vb.skipping(vlm, words):
        ids = vlm.model.generate(**inputs, **GREEDY)[0, inputs["input_ids"].shape[1] :]
    assert "".join(pieces) == vlm.tokenizer.decode(ids)


# video


def as_video(inputs: dict, frames: int) -> dict:
    """The images of one prompt, which stand side by side, as the frames of a video."""
    video = dict(inputs)
    ids = inputs["input_ids"]
    video["input_ids"] = ids.masked_fill(ids == IMAGE, VIDEO)
    video["pixel_values_videos"] = video.pop("pixel_values")
    grid = video.pop("image_grid_thw")
    video["video_grid_thw"] = torch.tensor([[frames, *grid[0, 1:].tolist()]])
    video["mm_token_type_ids"] = 2 * (ids == IMAGE).int()
    return video


@pytest.mark.parametrize("name", ["Qwen2-VL", "Qwen2.5-VL"])
@each_plan
def test_frames_of_a_video(name, words):
    vlm = tiny(FAMILIES[name])
    inputs = as_video(batch(FAMILIES[name], ("ttIItttt",)), 2)
    other = {**inputs, "pixel_values_videos": inputs["pixel_values_videos"].flip(0)}
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "suppress_tokens": [IMAGE, VIDEO]}

    def run():
        return vlm.model.generate(**inputs, **options, do_sample=False).tolist()

    both_forms(vlm, words, run)
    logits = [vlm.model(**shown).logits[:, -1] for shown in (inputs, other)]
    assert not torch.allclose(*logits, atol=1e-3)  # the frames are seen


# threads


def test_two_plans_on_one_model_are_refused_by_name(vlm):
    """The plan of one thread stands; the other thread is told, and nothing is mixed."""
    inside_block, done = threading.Event(), threading.Event()
    inputs = llava_batch("padded")
    with vb.skipping(vlm, "block 1,3"):
        want = vlm.model.generate(**inputs, **GREEDY)

    def first():
        with vb.skipping(vlm, "block 1,3"):
            inside_block.set()
            assert done.wait(30)
            return vlm.model.generate(**inputs, **GREEDY)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(first)
        assert inside_block.wait(30)
        with pytest.raises(BridgeError, match=r"skipping already.*SkipPlan\.compose"):
            with vb.skipping(vlm, "freeze 1-2"):
                pass
        with pytest.raises(BridgeError, match="is skipping at present"), vlm.whole():
            pass
        done.set()
        assert torch.equal(running.result(), want)
    with vb.skipping(vlm, "freeze 1-2"):  # the first has ended
        vlm.model.generate(**inputs, **GREEDY)


def test_a_block_is_of_the_model_and_not_of_the_thread(vlm):
    """A thread that generates outside any block runs the plan of the block that is open."""
    inputs = llava_batch("padded")
    full = vlm.model.generate(**inputs, **GREEDY)
    with ThreadPoolExecutor(1) as pool, vb.skipping(vlm, "block 1,3"):
        plan = vlm.model.generate(**inputs, **GREEDY)
        elsewhere = pool.submit(vlm.model.generate, **inputs, **GREEDY).result()
    assert not torch.equal(plan, full)
    assert torch.equal(elsewhere, plan)


@each_plan
def test_threads_in_one_block(vlm, words):
    names = ["single", "padded", "ragged", "no image"] * 3

    def run():
        with ThreadPoolExecutor(4) as pool:
            jobs = [
                pool.submit(vlm.model.generate, **llava_batch(name), **GREEDY) for name in names
            ]
            return [job.result().tolist() for job in jobs]

    together = both_forms(vlm, words, run)
    with vb.skipping(vlm, words):
        alone = [vlm.model.generate(**llava_batch(name), **GREEDY).tolist() for name in names]
    assert together == alone


# adapters and quantised layers


def served(vlm, plan, items):
    """The answers of a server, asked at once."""

    async def run():
        app = vb.server_app(vlm, plan, settings=ServerSettings(wait=0.2))
        async with inside(app) as client:
            asked = (client.post(CHAT, json=body(item)) for item in items)
            return [text_of(reply) for reply in await asyncio.gather(*asked)]

    return asyncio.run(run())


def alone(vlm, plan, items):
    with vb.skipping(vlm, plan):
        return vb.answer(vlm, items, batch_size=1, max_new_tokens=8)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about transformers
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_model_of_peft_is_served(tmp_path):
    peft = pytest.importorskip("peft")
    items = asked_pictures(tmp_path, 6)
    before = served(tiny_llava(), "freeze 1-2", items)
    lora = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    vlm = vb.wrap(peft.get_peft_model(tiny_llava().model, lora).eval(), processor(), name="mine")
    found = served(vlm, "freeze 1-2", items)
    assert found == alone(vlm, "freeze 1-2", items)
    assert found != before
    both_forms(vlm, "freeze 1-2", lambda: vb.answer(vlm, items, max_new_tokens=8))


@each_plan
def test_a_model_of_8_bit_layers_is_served(words, tmp_path):
    items = asked_pictures(tmp_path, 6)
    vlm = vb.wrap(quantised(Int8).model, processor(), name="eight bits")
    assert not any(type(m) is nn.Linear for m in vlm.layout.layers.modules())
    assert served(vlm, words, items) == alone(vlm, words, items)
    both_forms(vlm, words, lambda: vb.answer(vlm, items, max_new_tokens=8))


@pytest.fixture
def dynamic():
    """Torch's own dynamic quantisation: one scale for the states of all tokens."""
    with pytest.warns((DeprecationWarning, UserWarning)):
        model = torch.ao.quantization.quantize_dynamic(
            tiny_llava().model, {nn.Linear}, dtype=torch.qint8
        )
    return vb.wrap(model.eval(), processor(), name="dynamic")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_layers_of_dynamic_quantisation(dynamic):
    """Whole layers and sublayers are skipped; what leaves tokens out is refused by name."""
    inputs = llava_batch("padded")
    full = dynamic.model.generate(**inputs, **GREEDY).tolist()
    for words in ("block 1,3", "sublayer attention=1 mlp=2"):
        said = both_forms(
            dynamic, words, lambda: dynamic.model.generate(**inputs, **GREEDY).tolist()
        )
        assert said != full
    with pytest.raises(BridgeError, match=r"by one scale or choice.*use block or sublayer"):
        with vb.skipping(dynamic, "freeze 1-2"):
            pass
    with pytest.raises(BridgeError, match="packed"):
        dynamic.fingerprint  # noqa: B018
