"""VisionZip: what stays is what the eager encoder's own attention weights say, or it is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForMultimodalLM, DynamicCache

from tests.vlm_bridge.families import FAMILIES, UNLISTED, Family, batch, build, configs, tiny
from tests.vlm_bridge.families.configs import EOS, IMAGE, LAYERS, PAD
from tests.vlm_bridge.families.more import blip2
from tests.vlm_bridge.families.table import AUDIO_FAMILY
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.layout import find_layout
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping
from vlm_bridge.skip.pass_state import PassState
from vlm_bridge.skip.selectors.visionzip import _Known, _placed
from vlm_bridge.skip.support import check_support

#: 16 tokens an image, and three layers, of which the second is the one that counts.
TOWER = {"patch_size": 4, "num_hidden_layers": 3}


def llava_with(tower, strategy, **more):
    def config():
        return configs.of(
            "llava",
            configs.text("llama"),
            configs.vision(tower, **TOWER, **more),
            image_token_index=IMAGE,
            vision_feature_layer=-2,
            vision_feature_select_strategy=strategy,
            image_seq_length=16,
        )

    return config


CLIP = Family(llava_with("clip_vision_model", "default"), tokens=16)
SIGLIP = Family(llava_with("siglip_vision_model", "full", vision_use_head=False), tokens=16)
OURS = {"CLIP": CLIP, "SigLIP": SIGLIP}
ONE_TO_ONE = ("LLaVA", "VipLLaVA", "DeepSeek-VL", "Janus", "PaliGemma")
EVERY = {**FAMILIES, **UNLISTED}
SITUATIONS = {
    "single": ("ttIttttt",),
    "padded": ("ttIttttt", "Itttttttt", "tIt"),
    "ragged": ("ttIttItt", "tttttttt", "It"),
    "no image": ("tttt", "tt"),
}


def plan_of(after, keep=0.25, **fields):
    return SkipPlan("token_pruning", LAYERS, after=after, keep=keep, select="visionzip", **fields)


PLANS = [
    plan_of(0),
    plan_of(2, 0.5),
    SkipPlan(
        "progressive_pruning", LAYERS, stages=((0, 0.75), (2, 0.25), (3, 0.1)), select="visionzip"
    ),
    SkipPlan.compose(plan_of(1), SkipPlan("freeze", LAYERS, layers=(0, 2))),
]
#: Without a cache a generated image id would be taken for a picture of the prompt.
NO_CACHE = {"use_cache": False, "suppress_tokens": [IMAGE]}
several = pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.describe())
towers = pytest.mark.parametrize("tower", OURS)


def forward(vlm, inputs, **options):
    with torch.no_grad():
        return vlm.model(**inputs, **options)


def decoded(vlm, inputs, **options):
    torch.manual_seed(3)
    return vlm.model.generate(**inputs, max_new_tokens=4, min_new_tokens=4, **options)


@lru_cache
def own_scores(name, situation):
    """(batch, t): mean attention in the encoder, from the weights that eager attention gives."""
    vlm, inputs = tiny(OURS[name], "eager"), batch(OURS[name], SITUATIONS[situation])
    scores = torch.zeros(inputs["input_ids"].shape)
    if "pixel_values" in inputs:
        with torch.no_grad():
            weights = vlm.layout.base.vision_tower(
                inputs["pixel_values"], output_attentions=True
            ).attentions[1]
        by_image = weights.mean(1)  # (images, queries, keys)
        by_image = by_image[:, 0, 1:] if name == "CLIP" else by_image.mean(1)
        scores[inputs["input_ids"] == IMAGE] = by_image.flatten()
    return scores


def kept_by(vlm, inputs, plan, *, fast):
    """What every stage keeps, (batch, t) each."""
    kept = []
    with skipping(vlm, plan, fast=fast) as tracker:
        last = vlm.layout.layers[-1].register_forward_hook(
            lambda *_: kept.extend(stage.flags for stage in tracker.whole.stages)
        )
        forward(vlm, inputs)
        last.remove()
    return kept


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("situation", ["single", "padded", "ragged"])
@towers
def test_what_stays_is_what_the_encoder_attends_to(tower, situation, attention):
    inputs, scores = batch(OURS[tower], SITUATIONS[situation]), own_scores(tower, situation)
    for plan in PLANS[:3]:
        for fast in (True, False):
            kept = kept_by(tiny(OURS[tower], attention), inputs, plan, fast=fast)
            for (_, share), found in zip(plan.pruning, kept, strict=True):
                for ids, score, flags in zip(inputs["input_ids"], scores, found, strict=True):
                    places = (ids == IMAGE).nonzero()[:, 0]
                    count = max(1, round(share * len(places))) if len(places) else 0
                    best = places[score[places].topk(count).indices].sort().values
                    assert torch.equal(flags.nonzero()[:, 0], best)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@several
@towers
def test_fast_is_plain(tower, plan, attention):
    vlm = tiny(OURS[tower], attention)
    for prompts in SITUATIONS.values():
        inputs, found = batch(OURS[tower], prompts), []
        for fast in (True, False):
            with skipping(vlm, plan, fast=fast):
                logits = forward(vlm, inputs, use_cache=False).logits
                cached = forward(vlm, inputs, use_cache=True).logits
                tokens = [
                    decoded(vlm, inputs, do_sample=False, **options)
                    for options in ({}, {"num_beams": 3}, NO_CACHE)
                ]
                tokens.append(decoded(vlm, inputs, do_sample=True, num_return_sequences=2))
            found.append((logits[inputs["attention_mask"].bool()], cached, tokens))
        torch.testing.assert_close(found[0][0], found[1][0], atol=1e-4, rtol=1e-4)
        real = inputs["attention_mask"].bool()
        torch.testing.assert_close(found[0][1][real], found[1][0], atol=1e-4, rtol=1e-4)
        for fast, plain in zip(found[0][2], found[1][2], strict=True):
            assert torch.equal(fast, plain)


@pytest.mark.parametrize("name", ONE_TO_ONE)
def test_other_families_whose_tokens_are_the_encoders(name):
    vlm, family = tiny(EVERY[name]), EVERY[name]
    for prompts in (("ttIttItt", "tttttttt", "It"), ("ttIttttt",)):
        inputs, found = batch(family, prompts), []
        real = inputs["attention_mask"].bool()
        for fast in (True, False):
            with skipping(vlm, plan_of(1, 0.5), fast=fast):
                logits = forward(vlm, inputs).logits[real]
                found.append((logits, decoded(vlm, inputs, do_sample=False)))
        torch.testing.assert_close(found[0][0], found[1][0], atol=1e-4, rtol=1e-4)
        assert torch.equal(found[0][1], found[1][1])


def rows_that_follow(vlm, inputs, token):
    """The features of one image that change with one token behind the encoder's layers."""
    stack = vlm.layout.stack("vision")

    def disturb(_, args, kwargs):
        states = (args[0] if args else kwargs["hidden_states"]).clone()
        states[:, token] += torch.linspace(-1, 1, states.shape[-1])
        return (
            ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})
        )

    made = []
    nothing = SkipPlan("block", stack.n_layers, layers=tuple(range(stack.n_layers)), stack="vision")
    for hook in (lambda *args: None, disturb):
        handle = stack.layers[0].register_forward_pre_hook(hook, with_kwargs=True)
        with torch.no_grad(), skipping(vlm, nothing):
            output = vlm.layout.base.get_image_features(inputs["pixel_values"], return_dict=True)
        handle.remove()
        made.append(torch.cat([part.flatten(0, -2) for part in output.pooler_output]))
    return (made[0] != made[1]).any(1).nonzero()[:, 0].tolist()


@pytest.mark.parametrize("name", [*ONE_TO_ONE, *OURS])
def test_features_are_tokens_of_the_encoder_in_order(name):
    """With all layers of the encoder left out, one token is in one feature, at its place."""
    family = {**EVERY, **OURS}[name]
    vlm, inputs = tiny(family), batch(family, ("tIt",))
    first = int(name in ("LLaVA", "VipLLaVA", "CLIP"))
    check_support(vlm, plan_of(0))
    for token in range(family.tokens + first):
        rows = rows_that_follow(vlm, inputs, token)
        assert rows == ([token - first] if token >= first else [])


#: Family -> what is wrong with it.
REFUSED = {
    "LLaVA of MobileNetV2": "is no list of residual layers with attention",
    "LLaVA-NeXT": "is not known of LlavaNextModel with CLIPVisionModel",
    "LLaVA-OneVision": "takes video, too",
    "Qwen2-VL": "takes video, too",
    "Qwen2.5-VL": "Qwen2_5_VLModel takes video, too",
    "Qwen3-VL": "takes video, too",
    "SmolVLM": "is not known of SmolVLMModel with SmolVLMVisionTransformer",
    "Idefics3": "is not known of Idefics3Model with Idefics3VisionTransformer",
    "Gemma3": "is not known of Gemma3Model with SiglipVisionModel",
    "InternVL": "is not known of InternVLModel with InternVLVisionModel",
}


@pytest.mark.parametrize("name", EVERY)
def test_every_family_is_right_or_refused(name):
    vlm = tiny(EVERY[name])
    for plan in PLANS:
        if name in ONE_TO_ONE:
            check_support(vlm, plan)
            continue
        with pytest.raises(BridgeError, match="refused: .*" + REFUSED.get(name, "")) as error:
            with skipping(vlm, plan):
                raise AssertionError("not refused before the block")
        if name != "Llama4":  # which supports no pruning at all
            assert "select divprune, dart or cdpruner" in str(error.value)


def test_sound_and_queries_are_refused():
    for vlm, why in (
        (tiny(AUDIO_FAMILY), "takes audio, too"),
        (blip2()[0], "with Blip2VisionModel"),
    ):
        n = vlm.layout.n_layers
        plan = SkipPlan("token_pruning", n, after=0, keep=0.5, select="visionzip")
        with pytest.raises(BridgeError, match=f"visionzip.*{why}"):
            check_support(vlm, plan)


def made(config):
    model = AutoModelForMultimodalLM.from_config(config()).eval()
    return VLM("made", model, None, find_layout(model, (PAD, EOS)))


@pytest.mark.parametrize(
    ("tower", "strategy", "fields", "why"),
    [
        ("clip_vision_model", "full", {}, "leaves the class token of its vision encoder among"),
        ("siglip_vision_model", "default", {}, "leaves out the first token of an encoder that"),
        ("pixtral", "full", {"head_dim": 8}, "is not known of LlavaModel with PixtralVisionModel"),
    ],
)
def test_a_llava_with_other_tokens_is_refused(tower, strategy, fields, why):
    with pytest.raises(BridgeError, match=why):
        check_support(made(llava_with(tower, strategy, **fields)), plan_of(0))


def test_an_encoder_of_one_layer_has_no_second_to_last():
    def config():
        found = CLIP.config()
        found.vision_config.num_hidden_layers = 1
        found.vision_feature_layer = -1
        return found

    with pytest.raises(
        BridgeError, match="the second-to-last layer, and the vision encoder has one"
    ):
        check_support(made(config), plan_of(0))


def test_no_weights_are_needed_to_say_so():
    with torch.device("meta"):
        vlm = made(CLIP.config)
    check_support(vlm, plan_of(0))


def with_encoder(*layers, mode="block", **fields):
    fields = {"layers": layers} if mode == "block" else fields
    return SkipPlan.compose(plan_of(0), SkipPlan(mode, 3, stack="vision", **fields))


def test_plans_that_skip_layers_of_the_encoder_too():
    vlm, inputs = tiny(CLIP), batch(CLIP, SITUATIONS["ragged"])
    real = inputs["attention_mask"].bool()
    for plan in (with_encoder(1), with_encoder(mode="sublayer", attention=(1,))):
        with pytest.raises(
            BridgeError, match="attention of layer 1 of the vision encoder, which the"
        ):
            check_support(vlm, plan)
    for plan in (with_encoder(0), with_encoder(2), with_encoder(mode="sublayer", mlp=(1,))):
        logits = []
        for fast in (True, False):
            with skipping(vlm, plan, fast=fast):
                logits.append(forward(vlm, inputs).logits[real])
        torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["LLaVA", "PaliGemma"])
def test_images_encoded_beforehand(name):
    """Inside the block their scores are known, of several images in any order; outside not."""
    vlm, family = tiny(EVERY[name]), EVERY[name]
    inputs = batch(family, ("ttIttItt", "It"))
    text = {key: value for key, value in inputs.items() if key != "pixel_values"}
    base = vlm.layout.base
    outside = base.get_image_features(inputs["pixel_values"] + 1, return_dict=True)
    with skipping(vlm, plan_of(1, 0.5)):
        with pytest.raises(BridgeError, match="were not encoded in the block"):
            forward(vlm, text, mm_encoder_outputs={"image": outside})
        truth = forward(vlm, inputs).logits
        with torch.no_grad():
            other = base.get_image_features(inputs["pixel_values"].flip(0), return_dict=True)
            encoded = base.get_image_features(inputs["pixel_values"], return_dict=True)
        again = forward(vlm, text, mm_encoder_outputs={"image": encoded}).logits
        torch.testing.assert_close(again, truth)
        assert not torch.equal(
            forward(vlm, text, mm_encoder_outputs={"image": other}).logits, truth
        )
        with pytest.raises(BridgeError, match="were not encoded in the block"):
            forward(vlm, text, mm_encoder_outputs={"image": outside})
        for options in ({}, {"num_beams": 2}):
            tokens = decoded(vlm, inputs, do_sample=False, **options)
            with torch.no_grad():
                encoded = base.get_image_features(inputs["pixel_values"], return_dict=True)
            more = {"mm_encoder_outputs": {"image": encoded}, **options}
            assert torch.equal(decoded(vlm, text, do_sample=False, **more), tokens)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("name", ["LLaVA", "PaliGemma"])
def test_a_prompt_that_generate_cuts(name, beams):
    """Through images, in several copies of several prompts: each token keeps its score."""
    vlm, family, said = tiny(EVERY[name]), EVERY[name], []
    inputs = batch(family, ("ttIttItt", "ttttttItt", "It"))
    options = {"do_sample": False, "num_beams": beams}
    for fast in (True, False):
        found = []
        with skipping(vlm, plan_of(1, 0.5), fast=fast) as tracker:
            handle = vlm.layout.layers[-1].register_forward_hook(
                lambda *_, tracker=tracker, found=found: found.append(tracker.whole.received)
            )
            decoded(vlm, inputs, **options)
            whole = found[0]
            found.clear()
            said.append(decoded(vlm, inputs, prefill_chunk_size=3, **options))
            handle.remove()
        blank = torch.zeros(len(whole), 3)
        parts = [blank if part is None else part for part in found][: whole.shape[1] // 3]
        assert sum(bool(part.any()) for part in parts) > 2
        assert torch.equal(torch.cat(parts, dim=1), whole[:, : 3 * len(parts)])
    assert torch.equal(*said)


def test_turns_with_a_cache():
    """A later turn of text alone, and one with another image behind the first."""
    vlm, found = tiny(CLIP), []
    parts = [batch(CLIP, (letters,), seed=i) for i, letters in enumerate(("ttItt", "ttt", "tIt"))]
    for plan in PLANS:
        found = []
        for fast in (True, False):
            cache = DynamicCache(config=vlm.layout.text_config)
            with skipping(vlm, plan, fast=fast):
                for part in parts:
                    part = {key: value for key, value in part.items() if key != "attention_mask"}
                    found.append(forward(vlm, part, past_key_values=cache, use_cache=True).logits)
        for fast, plain in zip(found[:3], found[3:], strict=True):
            torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-4)


def test_threads_choose_by_their_own_images():
    vlm = tiny(CLIP)
    several = [batch(CLIP, prompts, seed=i) for i, prompts in enumerate(SITUATIONS.values())] * 3
    with skipping(vlm, plan_of(1)):
        alone = [decoded(vlm, inputs, do_sample=False) for inputs in several]
        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(lambda i: decoded(vlm, i, do_sample=False), several))
    assert all(map(torch.equal, alone, together))


def test_other_tokens_in_one_call_are_refused_before_the_decoder():
    """The class token in the prompt, asked for in a call, after the block began."""
    vlm, family = tiny(CLIP), Family(CLIP.config, tokens=17)
    inputs, ran = batch(family, ("tIt",)), []
    handle = vlm.layout.layers[0].register_forward_pre_hook(lambda *_: ran.append(1))
    with skipping(vlm, plan_of(2)):
        with pytest.raises(BridgeError, match="gives 16 tokens and the model makes 17 features"):
            forward(vlm, inputs, vision_feature_select_strategy="full")
    handle.remove()
    assert not ran


def test_the_model_is_left_as_it_was():
    vlm, inputs = tiny(CLIP), batch(CLIP, SITUATIONS["padded"])
    before = forward(vlm, inputs).logits
    with skipping(vlm, plan_of(0)):
        assert not torch.equal(forward(vlm, inputs).logits, before)
    assert torch.equal(forward(vlm, inputs).logits, before)
    for module in vlm.model.modules():
        assert not {"forward", "get_image_features"} & module.__dict__.keys()


def test_scores_of_a_pass():
    flags = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]]).bool()
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4])
    one = torch.tensor([[0, 0.1, 0.2, 0.3], [0, 0, 0, 0], [0, 0, 0, 0.4]])
    assert torch.equal(_placed(scores, PassState(flags)), one)
    assert _placed(scores, PassState(torch.zeros_like(flags))) is None
    for other in (flags[:2], torch.cat([flags, flags])):
        with pytest.raises(BridgeError, match="has encoded 4 for it"):
            _placed(scores, PassState(other))


@given(order=st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_features_are_known_again_in_any_order(order):
    rows, scores = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6.0)
    known = _Known(scores, rows)
    assert known.of(rows[order]).tolist() == order
    with pytest.raises(BridgeError, match="were not encoded in the block"):
        known.of(rows[order] + 1e-6)


def test_gradients_do_not_go_through_the_scores():
    """Training in the block: gradients are those of the choice held fixed, and are finite."""
    vlm, inputs = tiny(CLIP), batch(CLIP, SITUATIONS["single"])
    with skipping(vlm, plan_of(1)):
        vlm.model(**inputs).logits.square().mean().backward()
    grown = vlm.layout.base.vision_tower.get_input_embeddings().weight.grad
    vlm.model.zero_grad()
    assert grown.isfinite().all()
    assert grown.any()


def test_two_seeds_choose_by_their_own_encoder():
    kept = set()
    for seed in range(3):
        model = build(CLIP.config, seed)
        vlm = VLM("tiny", model, None, find_layout(model, (PAD, EOS)))
        flags = kept_by(vlm, batch(CLIP, ("tIt",)), plan_of(0), fast=True)[0]
        kept.add(tuple(flags[0].tolist()))
    assert len(kept) > 1


def test_equal_features_of_other_scores_cannot_be_told_apart():
    """A connector whose output is constant: the pass itself can tell, `generate` cannot."""
    vlm, inputs = tiny(CLIP), batch(CLIP, SITUATIONS["single"])
    with torch.no_grad():
        for parameter in vlm.layout.base.multi_modal_projector.parameters():
            parameter.zero_()
    with skipping(vlm, plan_of(0)):
        vlm.model(**inputs)
        with pytest.raises(BridgeError, match="tokens of other scores have equal features here"):
            decoded(vlm, inputs)
