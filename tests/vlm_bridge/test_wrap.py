"""Models that are in memory already: wrapped, skipped bare, and refused by name."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from accelerate import cpu_offload
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

import vlm_bridge as vb
from tests.vlm_bridge.adapters import tuned
from tests.vlm_bridge.families.processors import PROCESSORS, with_processor
from tests.vlm_bridge.quantised import Int8, replace_linears
from tests.vlm_bridge.tiny import asked_pictures, batch, processor, tiny_llava
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import write_json

WORDS, PLAN = "freeze 1-2", SkipPlan("freeze", 4, layers=(1, 2))
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}


@pytest.fixture
def model():
    return tiny_llava().model


@torch.no_grad()
def logits(model, **options):
    return model(**batch("padded"), **options).logits


def under(model, plan, **options):
    with vb.skipping(model, plan, **options):
        return logits(model.model if isinstance(model, vb.VLM) else model)


def test_a_wrapped_model_is_the_loaded_one(model, tmp_path):
    loaded = vb.VLM.of("mine", model, processor())
    vlm = vb.wrap(model, processor(), name="mine")
    assert (vlm.name, vlm.fingerprint) == ("mine", loaded.fingerprint)
    assert vlm.model is model
    assert vb.wrap(model, processor()).name == "LlavaForConditionalGeneration"
    items = asked_pictures(tmp_path, 3)
    assert vb.answer(vlm, items) == vb.answer(loaded, items)


def test_the_fingerprint_is_of_the_weights_as_they_are(model):
    vlm = vb.wrap(model, processor())
    before = vlm.fingerprint
    other = vb.wrap(deepcopy(model), processor())
    assert other.fingerprint == before
    with torch.no_grad():
        other.model.lm_head.weight[0, 0] += 1
    assert other.fingerprint != before == vlm.fingerprint


@pytest.mark.parametrize("family", PROCESSORS)
def test_every_family_fits_its_own_processor(family):
    vlm = with_processor(family)
    assert vb.wrap(vlm.model, vlm.processor, name="x").layout.image_ids == vlm.layout.image_ids


def test_plans_in_words_at_every_surface(model, tmp_path):
    vlm = vb.wrap(model, processor())
    items = asked_pictures(tmp_path, 6)
    assert torch.equal(under(vlm, WORDS), under(vlm, PLAN))
    path = tmp_path / "plan.json"
    write_json(path, PLAN.to_json())
    assert torch.equal(under(vlm, str(path)), under(vlm, PLAN))
    assert torch.equal(under(vlm, path), under(vlm, PLAN))
    for verb in (vb.certify, vb.compare):
        assert verb(vlm, items, WORDS) == verb(vlm, items, PLAN)
    assert vb.sweep(vlm, items, [WORDS]) == vb.sweep(vlm, items, [PLAN])
    kept = vb.generate_lossless(vlm, batch("single"), "block 2", max_new_tokens=4)
    asked = SkipPlan("block", 4, layers=(2,))
    assert kept == vb.generate_lossless(vlm, batch("single"), asked, max_new_tokens=4)
    with pytest.raises(vb.BridgeError, match="list of plans is wanted, got 'block 2'; put it into"):
        vb.sweep(vlm, items, "block 2")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("freeze 9", "layer 9 is out of range"),
        ("freez 2", "is neither a plan file nor a plan in words"),
        ("band 1-2", "a plan has no '1-2'"),
        ("freeze 1 layers=2", "'layers' is given twice"),
        ("missing.json", "missing.json"),
    ],
)
def test_wrong_words_are_refused(model, words, says):
    with pytest.raises(vb.BridgeError) as refusal, vb.skipping(model, words):
        pass
    assert says in str(refusal.value)


def test_a_bare_model_is_skipped(model):
    full = logits(model)
    expected = under(vb.wrap(model, processor()), PLAN)
    assert torch.equal(under(model, WORDS), expected)
    torch.testing.assert_close(under(model, WORDS, fast=False), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(full, expected)
    assert torch.equal(logits(model), full)


def test_what_compile_makes_is_skipped_and_wrapped(model):
    compiled = torch.compile(model, backend="eager")
    expected = under(model, PLAN)
    assert torch.equal(under(compiled, WORDS), expected)
    vlm = vb.wrap(compiled, processor(), name="mine")
    assert vlm.model is model
    assert vlm.fingerprint == vb.wrap(model, processor()).fingerprint
    torch.compiler.reset()


def test_adapters_in_the_layers_are_taken(model, tmp_path):
    plain = logits(model)
    wrapper = tuned(model)
    vlm = vb.wrap(wrapper, processor(), name="mine")
    assert not torch.allclose(logits(wrapper), plain)
    fast, slow = under(wrapper, WORDS), under(wrapper, WORDS, fast=False)
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-4)
    assert torch.equal(under(vlm, WORDS), fast)
    assert len(vb.answer(vlm, asked_pictures(tmp_path, 4))) == 4
    seen = {vlm.fingerprint}
    first = vlm.layout.layers[0].self_attn.q_proj
    for name, value in (
        ("scaling", {"default": 3.0}),
        ("disable_adapters", True),
        ("active_adapters", []),
    ):
        setattr(first, name, value)
        seen.add(vlm.running_fingerprint(quick=True))
    assert len(seen) == 4


def test_virtual_tokens_are_refused(model):
    wrapper = tuned(model, virtual_tokens=True)
    for call in (lambda: vb.wrap(wrapper, processor()), lambda: under(wrapper, WORDS)):
        with pytest.raises(
            vb.BridgeError, match=r"'default' .* puts virtual tokens .* give model.get_base_model"
        ):
            call()


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about transformers
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_peft_itself(model, tmp_path):
    peft = pytest.importorskip("peft")
    options = {"task_type": "CAUSAL_LM"}
    lora = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, **options)
    wrapper = peft.get_peft_model(model, lora).eval()
    vlm = vb.wrap(wrapper, processor(), name="mine")
    assert torch.equal(logits(wrapper), logits(vlm.model))
    assert torch.equal(under(wrapper, WORDS), under(vlm, WORDS))
    items = asked_pictures(tmp_path, 4)
    before, asked = vlm.fingerprint, vb.answer(vlm, items)
    with wrapper.disable_adapter():
        assert vlm.running_fingerprint(quick=True) != before
        assert vb.answer(vlm, items) != asked
    assert vlm.fingerprint == before
    virtual = peft.PromptTuningConfig(num_virtual_tokens=2, **options)
    with pytest.raises(vb.BridgeError, match="virtual tokens"):
        vb.wrap(peft.get_peft_model(tiny_llava().model, virtual).eval(), processor())


def test_a_quantised_model(model, tmp_path):
    replace_linears(model.model.language_model, Int8)
    vlm = vb.wrap(model, processor(), name="eight bits")
    assert vlm.fingerprint != vb.wrap(tiny_llava().model, processor()).fingerprint
    fast, slow = under(vlm, WORDS), under(vlm, WORDS, fast=False)
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-4)
    assert len(vb.answer(vlm, asked_pictures(tmp_path, 2))) == 2


@pytest.mark.filterwarnings("ignore")
def test_torchao(model):
    quantization = pytest.importorskip("torchao.quantization")
    quantization.quantize_(model.model.language_model, quantization.Int8WeightOnlyConfig())
    vlm = vb.wrap(model, processor(), name="eight bits")
    assert vlm.fingerprint != vb.wrap(tiny_llava().model, processor()).fingerprint
    fast, slow = under(vlm, WORDS), under(vlm, WORDS, fast=False)
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-4)


def test_weights_that_accelerate_keeps(model, tmp_path):
    items = asked_pictures(tmp_path, 3)
    expected, whose = vb.answer(vb.wrap(model, processor()), items), tiny_llava().fingerprint
    cpu_offload(model, execution_device=torch.device("cpu"))
    vlm = vb.wrap(model, processor())
    assert model.lm_head.weight.is_meta
    assert vlm.device == torch.device("cpu")
    assert vb.answer(vlm, items) == expected
    assert vlm.fingerprint == whose
    torch.testing.assert_close(under(vlm, WORDS), under(tiny_llava(), WORDS))


def test_no_weights_are_refused():
    with torch.device("meta"):
        model = tiny_llava().model.to("meta")
    with pytest.raises(vb.BridgeError, match=r"no weights in memory .* on the meta device"):
        vb.wrap(model, processor())


def test_training_mode_is_refused(model):
    model.model.language_model.layers[1].train()
    with pytest.raises(vb.BridgeError, match=r"training mode \(model.language_model.layers.1\)"):
        vb.wrap(model, processor())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda m: "my/model", "got 'my/model'; vb.load reads one"),
        (lambda m: None, "got None; vb.load reads one"),
        (lambda m: processor(), "the model comes first, then the processor"),
        (lambda m: nn.Linear(2, 2), "got a Linear"),
        (lambda m: nn.DataParallel(m), "got a DataParallel; give what it wraps, model.module"),
        (
            lambda m: SimpleNamespace(model=m, tokenizer=1),
            "give its parts: vb.wrap(pipe.model, pipe.processor or pipe.tokenizer)",
        ),
        (lambda m: LlamaModel(LlamaConfig(**SMALL)).eval(), "LlamaModel generates no text"),
        (lambda m: BertModel(BertConfig(**SMALL)).eval(), "BertModel generates no text"),
    ],
)
def test_what_is_no_language_model_is_refused(model, given, says):
    with pytest.raises(vb.BridgeError) as refusal:
        vb.wrap(given(model), processor())
    assert says in str(refusal.value)


def test_what_is_no_processor_of_the_model_is_refused(model):
    with pytest.raises(vb.BridgeError, match=r"given no processor.*AutoProcessor.from_pretrained"):
        vb.wrap(model, None)
    with pytest.raises(vb.BridgeError, match="CLIPImageProcessorPil has no tokenizer"):
        vb.wrap(model, processor().image_processor)
    other = deepcopy(processor())
    other.image_token = "red"
    with pytest.raises(vb.BridgeError, match=r"it writes token \d+ for image .* at token 3"):
        vb.wrap(model, other)
    model.resize_token_embeddings(20)
    with pytest.raises(vb.BridgeError, match=r"it knows \d+ tokens, and the model embeds 20"):
        vb.wrap(model, processor())


@pytest.mark.parametrize(
    ("takes", "gives", "says"),
    [
        ("LLaVA", "Qwen2.5-VL", "it makes image_grid_thw of an image"),
        ("Qwen2.5-VL", "SmolVLM", "it makes pixel_attention_mask of an image"),
        ("SmolVLM", "LLaVA", "it does not make pixel_attention_mask of an image"),
        ("LLaVA-NeXT", "LLaVA", "it does not make image_sizes of an image"),
    ],
)
def test_a_processor_that_makes_other_inputs_is_refused(takes, gives, says):
    """Words and placeholders fit; the images come in another form."""
    vlm, made = with_processor(takes), deepcopy(with_processor(gives).processor)
    made.tokenizer, made.image_token = vlm.tokenizer, vlm.processor.image_token
    with pytest.raises(vb.BridgeError, match=f"is not the processor of this .*: {says}"):
        vb.wrap(vlm.model, made)


def test_a_tokenizer_in_place_of_the_processor_is_named_where_images_come(model, tmp_path):
    vlm = vb.wrap(model, processor().tokenizer)
    with pytest.raises(vb.BridgeError, match=r"takes no images, .* tokenizer in place of its proc"):
        vb.answer(vlm, asked_pictures(tmp_path, 2))


def test_a_skipping_model_takes_no_second_plan(model):
    with vb.skipping(model, WORDS):
        vlm = vb.wrap(model, processor())
        with pytest.raises(vb.BridgeError, match="is skipping already"), vb.skipping(vlm, WORDS):
            pass
