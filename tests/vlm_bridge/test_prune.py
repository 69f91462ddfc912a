"""A pruned folder is a standard model that answers as the skipped one, without this project."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMultimodalLM, AutoProcessor

from tests.vlm_bridge.families import FAMILIES, SITUATIONS, UNLISTED, batch, tiny
from tests.vlm_bridge.families.configs import LAYERS
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.layout import find_layout
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping
from vlm_bridge.skip.export import PLAN_FILE, RECORD, prune
from vlm_bridge.skip.shorter_config import shorten


def plan_for(name):
    """Without layer 0, where a family allows it; Qwen3-VL adds features behind 0 and 1."""
    layers = (2,) if name == "Qwen3-VL" else (0, 2)
    return SkipPlan("block", LAYERS, layers=layers, provenance=Provenance(rule="by hand"))


def inputs_for(name):
    return batch(FAMILIES[name], SITUATIONS["ragged"])


def forward(model, inputs):
    base = model.base_model
    if hasattr(base, "rope_deltas"):
        base.rope_deltas = None
    with torch.no_grad():
        return model(**inputs).logits


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """family -> its exported folder."""
    folder = tmp_path_factory.mktemp("pruned")
    return {
        name: prune(tiny(family), plan_for(name), folder / name)
        for name, family in FAMILIES.items()
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_the_folder_answers_as_the_skipped_model(name, pruned):
    vlm, inputs = tiny(FAMILIES[name]), inputs_for(name)
    with skipping(vlm, plan_for(name)):
        expected = forward(vlm.model, inputs)
        tokens = vlm.model.generate(**inputs, do_sample=False, max_new_tokens=4, min_new_tokens=4)
    model = AutoModelForMultimodalLM.from_pretrained(pruned[name], local_files_only=True).eval()
    assert type(model) is type(vlm.model)
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(forward(model, inputs)[real], expected[real], atol=1e-4, rtol=1e-4)
    found = model.generate(**inputs, do_sample=False, max_new_tokens=4, min_new_tokens=4)
    assert torch.equal(found, tokens)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_the_folder_says(name, pruned):
    plan, model = plan_for(name), tiny(FAMILIES[name]).model
    config = json.loads((pruned[name] / "config.json").read_text())
    text, old = config["text_config"], model.config.get_text_config(decoder=True)
    kept = [layer for layer in range(LAYERS) if layer not in plan.layers]
    assert text["num_hidden_layers"] == len(kept)
    if getattr(old, "layer_types", None):
        assert text["layer_types"] == [old.layer_types[layer] for layer in kept]
    record = config[RECORD]
    assert record["source"] == "tiny"
    assert record["kept_layers"] == kept
    assert SkipPlan.from_json(record["plan"]) == SkipPlan.read(pruned[name] / PLAN_FILE) == plan
    assert SkipPlan.read(pruned[name] / PLAN_FILE).provenance == plan.provenance
    assert "provenance" not in record["plan"]
    names = {path.name for path in pruned[name].iterdir()}
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "README.md",
        PLAN_FILE,
    }
    assert plan.describe() in (pruned[name] / "README.md").read_text()


@pytest.mark.parametrize("name", ["DeepSeek-VL", "Gemma3", "PaliGemma"])
def test_tied_weights_stay_tied(name, pruned):
    model = AutoModelForMultimodalLM.from_pretrained(pruned[name], local_files_only=True)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    tables = [key for key in load_file(pruned[name] / "model.safetensors") if "head" in key]
    assert not [key for key in tables if key.startswith("lm_head")]


def test_the_model_itself_is_untouched(tmp_path):
    vlm, inputs = tiny(FAMILIES["Gemma3"]), inputs_for("Gemma3")
    before, config = forward(vlm.model, inputs), vlm.model.config.to_json_string()
    prune(vlm, plan_for("Gemma3"), tmp_path / "out")
    assert torch.equal(forward(vlm.model, inputs), before)
    assert vlm.model.config.to_json_string() == config
    assert [layer.self_attn.layer_idx for layer in vlm.layout.layers] == list(range(LAYERS))


def test_processor_and_generation_settings_survive(tmp_path):
    vlm = tiny_llava()
    vlm.model.generation_config.max_new_tokens = 7
    folder = prune(vlm, SkipPlan("block", LAYERS, layers=(1,)), tmp_path / "out")
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    assert processor.chat_template == vlm.processor.chat_template
    text = "user : <image> red ?"
    assert processor.tokenizer(text) == vlm.processor.tokenizer(text)
    model = AutoModelForMultimodalLM.from_pretrained(folder, local_files_only=True)
    assert model.generation_config.max_new_tokens == 7
    assert model.generation_config.eos_token_id == 1


@pytest.mark.parametrize("name", UNLISTED)
def test_families_nobody_listed(name, tmp_path):
    vlm, inputs = tiny(UNLISTED[name]), batch(UNLISTED[name], SITUATIONS["ragged"])
    layers = {"Qwen3-VL-MoE": (2,), "Gemma4": (1, 2)}.get(name, (0, 3))
    plan = SkipPlan("block", LAYERS, layers=layers)
    with skipping(vlm, plan):
        expected = forward(vlm.model, inputs)
    folder = prune(vlm, plan, tmp_path / "out")
    model = AutoModelForMultimodalLM.from_pretrained(folder, local_files_only=True).eval()
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(forward(model, inputs)[real], expected[real], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layers", [(0, 2), (1, 3)])
def test_one_kind_of_attention_may_be_all_that_is_left(layers, tmp_path):
    """Gemma3 with full layers only, and with sliding layers only."""
    vlm, inputs = tiny(FAMILIES["Gemma3"]), inputs_for("Gemma3")
    plan = SkipPlan("block", LAYERS, layers=layers)
    with skipping(vlm, plan):
        expected = forward(vlm.model, inputs)
    folder = prune(vlm, plan, tmp_path / "out")
    model = AutoModelForMultimodalLM.from_pretrained(folder, local_files_only=True).eval()
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(forward(model, inputs)[real], expected[real], atol=1e-4, rtol=1e-4)


# --- refusals -------------------------------------------------------------------------------

TOKENS = (
    "standard classes cannot decide at run time which tokens a layer processes; "
    "use skipping(vlm, plan)"
)
REFUSED = [
    (
        "LLaVA",
        SkipPlan("freeze", LAYERS, layers=(1,)),
        f"prune exports plans of mode block, not freeze: {TOKENS}",
    ),
    (
        "LLaVA",
        SkipPlan("early_exit", LAYERS, exit=2),
        f"prune exports plans of mode block, not early_exit: {TOKENS}",
    ),
    (
        "LLaVA",
        SkipPlan("sublayer", LAYERS, attention=(1,)),
        "prune exports plans of mode block, not sublayer: standard classes have no layer without "
        "attention or MLP, and zeroed weights would save nothing; use skipping(vlm, plan)",
    ),
    (
        "LLaVA",
        SkipPlan("block", LAYERS, layers=(0, 1, 2, 3)),
        "the plan skips all 4 layers; prune leaves at least one",
    ),
    (
        "LLaVA",
        SkipPlan("block", 5, layers=(1,)),
        "the plan was made for 5 layers, the model has 4",
    ),
    (
        "Qwen3-VL",
        SkipPlan("block", LAYERS, layers=(1, 2)),
        "Qwen3VLForConditionalGeneration adds vision features behind layer 1 (DeepStack); without "
        "that layer they would be added elsewhere, so it cannot be pruned",
    ),
]


@pytest.mark.parametrize(("name", "plan", "message"), REFUSED)
def test_what_cannot_be_pruned(name, plan, message, tmp_path):
    with pytest.raises(BridgeError) as error:
        prune(tiny(FAMILIES[name]), plan, tmp_path / "out")
    assert str(error.value) == message
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_taken(tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(BridgeError) as error:
        prune(tiny(FAMILIES["LLaVA"]), plan_for("LLaVA"), tmp_path)
    assert (
        str(error.value) == f"{tmp_path} exists and is no empty folder; name a new or an empty one"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    vlm = tiny(FAMILIES["LLaVA"])

    def full(self, folder, **_):
        Path(folder, "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(vlm.model), "save_pretrained", full)
    with pytest.raises(BridgeError, match=r"cannot save the pruned model: .*No space left"):
        prune(vlm, plan_for("LLaVA"), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_layer_the_configuration_cannot_place(tmp_path, monkeypatch):
    """A setting that hangs on the layer's place, and that no list in the configuration holds."""
    vlm = tiny(FAMILIES["LLaVA"])
    monkeypatch.setattr(vlm.layout.layers[1].self_attn, "scaling", 0.5)
    with pytest.raises(BridgeError) as error:
        prune(vlm, plan_for("LLaVA"), tmp_path / "out")
    assert str(error.value) == (
        "LlavaForConditionalGeneration: the configuration cannot describe layer 1 at its new "
        f"place: self_attn.scaling is 0.5, but would be {8**-0.5}"
    )


@pytest.mark.parametrize(
    ("offloaded", "what_to_do"),
    [
        (False, ", so it cannot be told from another model; load it with its weights"),
        (True, "; load the model without offloading"),
    ],
)
def test_weights_that_are_not_in_memory(tmp_path, offloaded, what_to_do):
    config = FAMILIES["LLaVA"].config()
    with torch.device("cpu" if offloaded else "meta"):
        model = AutoModelForMultimodalLM.from_config(config)
    if offloaded:
        cpu_offload(model)
    vlm = VLM("big", model, None, find_layout(model))
    with pytest.raises(BridgeError) as error:
        prune(vlm, plan_for("LLaVA"), tmp_path / "out")
    name = next(iter(model.state_dict()))
    assert str(error.value) == (
        f"the weights of big are not in memory ({name} is on the meta device){what_to_do}"
    )
    assert not list(tmp_path.iterdir())


def test_first_layers_of_another_kind_are_counted_anew():
    """Kimi's decoder begins with plain MLPs, and says how many."""
    text = AutoConfig.for_model("deepseek_v3", num_hidden_layers=4, first_k_dense_replace=2)
    for kept, dense in (((0, 1, 3), 2), ((1, 2, 3), 1), ((2, 3), 0)):
        config = copy.deepcopy(text)
        shorten(config, "decoder", 4, kept)
        assert (config.num_hidden_layers, config.first_k_dense_replace) == (len(kept), dense)


def test_a_family_that_changes_its_configuration_when_it_is_read(tmp_path):
    """Gemma4 makes its last layer attend to everything, whatever the configuration says."""
    with pytest.raises(BridgeError) as error:
        prune(tiny(UNLISTED["Gemma4"]), SkipPlan("block", LAYERS, layers=(0, 3)), tmp_path / "out")
    assert str(error.value) == (
        "Gemma4ForConditionalGeneration: the configuration cannot describe layer 2 at its new "
        "place: self_attn.is_sliding is True, but would be False"
    )
    assert not list(tmp_path.iterdir())


# --- without this project -------------------------------------------------------------------

#: Loads, answers, saves again, loads that, and generates; only torch and transformers.
STRANGER = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMultimodalLM

root = Path(sys.argv[1])
for folder in sorted(path for path in root.iterdir() if path.is_dir()):
    given = load_file(root / f"{folder.name}.safetensors")
    expected, tokens = given.pop("expected"), given.pop("tokens")
    model = AutoModelForMultimodalLM.from_pretrained(folder, local_files_only=True).eval()
    model.save_pretrained(folder / "again")
    for model in (
        model,
        AutoModelForMultimodalLM.from_pretrained(folder / "again", local_files_only=True).eval(),
    ):
        with torch.no_grad():
            logits = model(**given).logits
        real = given["attention_mask"].bool()
        worst = float((logits - expected)[real].abs().max())
        options = {"do_sample": False, "max_new_tokens": 4, "min_new_tokens": 4}
        same = torch.equal(model.generate(**given, **options), tokens)
        print(json.dumps([folder.name, worst, same]))
loaded = {name.split(".")[0] for name in sys.modules}
ours = {"vlm_bridge", "theory", "estimators", "tests"} & loaded
assert not ours, ours
"""


@pytest.mark.slow
def test_a_fresh_process_without_this_project(pruned, tmp_path):
    # A tower that transformers does not know: its class comes with this package.
    standard = {name: folder for name, folder in pruned.items() if name != "LLaVA of MobileNetV2"}
    for name, folder in standard.items():
        shutil.copytree(folder, tmp_path / name)
        vlm, inputs = tiny(FAMILIES[name]), inputs_for(name)
        with skipping(vlm, plan_for(name)):
            expected = forward(vlm.model, inputs)
            tokens = vlm.model.generate(
                **inputs, do_sample=False, max_new_tokens=4, min_new_tokens=4
            )
        given = {**inputs, "expected": expected, "tokens": tokens}
        save_file(
            {key: value.contiguous() for key, value in given.items()},
            tmp_path / f"{name}.safetensors",
        )
    run = subprocess.run(
        [sys.executable, "-c", STRANGER, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(lines) == 2 * len(standard)
    assert [line for line in lines if not (line[1] <= 1e-4 and line[2])] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it traces
@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("LLaVA", "inductor"),
        ("Qwen2.5-VL", "aot_eager"),
        ("SmolVLM", "aot_eager"),
        ("Gemma3", "aot_eager"),
    ],
)
def test_compiled_equals_eager(name, backend, pruned):
    """`torch.compile` of a pruned model; machine code for one, the traced graph for all."""
    if backend == "inductor" and not (shutil.which("g++") or shutil.which("c++")):
        pytest.skip("inductor needs a C++ compiler")
    model = AutoModelForMultimodalLM.from_pretrained(pruned[name], local_files_only=True).eval()
    inputs = inputs_for(name)
    expected = forward(model, inputs)
    torch.compiler.reset()
    with torch.no_grad():
        found = torch.compile(model, backend=backend)(**inputs).logits
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[real], expected[real], atol=1e-4, rtol=1e-4)
