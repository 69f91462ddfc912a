"""What `export_gguf` writes is what transformers and llama.cpp read, weight for weight."""

from __future__ import annotations

import json
import os
import re
import subprocess

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from tokenizers import normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

import vlm_bridge as vb
from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.tiny import processor, tiny_llava
from tests.vlm_bridge.tiny_llama import LAYERS, byte_tokenizer, tiny_llama
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM
from vlm_bridge.skip.export_gguf import _turned, export_gguf


def read_back(path):
    return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name).eval()


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_reads_the_file_back_with_equal_logits(tied, tmp_path):
    """A plain copy of query and key, or a head that is lost, would change every logit."""
    vlm = tiny_llama(tied=tied)
    path = export_gguf(vlm, tmp_path / "tiny.gguf")
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(read_back(path)(ids).logits, vlm.model(ids).logits)


def test_the_file_is_of_the_pruned_model_and_replaces_an_older_one(tmp_path):
    vlm = tiny_llama()
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"older")
    folder = vb.prune(vlm, "block layers=1,2", tmp_path / "small")
    export_gguf(folder, path)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad(), vb.skipping(vlm, "block layers=1,2"):
        expected = vlm.model(ids, use_cache=False).logits
    with torch.no_grad():
        torch.testing.assert_close(read_back(path)(ids).logits, expected, atol=1e-5, rtol=1e-4)
    assert {each.name for each in tmp_path.iterdir()} == {"small", "tiny.gguf"}


def test_rows_of_a_head_become_neighbours():
    """Row (head, half, i) goes to (head, i, half), by the definition, element by element."""
    rows = torch.arange(24.0)[:, None]
    found = _turned(rows, 3).flatten().tolist()
    assert found == [
        8 * head + 4 * half + i for head in range(3) for i in range(4) for half in (0, 1)
    ]


def test_the_tokenizer_goes_along(tmp_path):
    digits = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    plain = export_gguf(tiny_llama(), tmp_path / "plain.gguf")
    cut = export_gguf(tiny_llama(tokenizer=byte_tokenizer(digits)), tmp_path / "cut.gguf")
    fields = {path: GGUFReader(path).fields for path in (plain, cut)}
    assert fields[plain]["tokenizer.ggml.pre"].contents() == "gpt-2"
    assert fields[cut]["tokenizer.ggml.pre"].contents() == "smollm"
    tokens = fields[plain]["tokenizer.ggml.tokens"].contents()
    own = byte_tokenizer()
    assert tokens[: len(own)] == own.convert_ids_to_tokens(range(len(own)))
    assert tokens[len(own) :] == [f"[PAD{n}]" for n in range(len(own), len(own) + 3)]
    kinds = fields[plain]["tokenizer.ggml.token_type"].contents()
    assert kinds[:4] == [3, 3, 3, 1]
    assert kinds[-3:] == [5, 5, 5]
    back = AutoTokenizer.from_pretrained(tmp_path, gguf_file=plain.name)
    assert back("a red 7")["input_ids"] == own("a red 7")["input_ids"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (tiny_llava, "export_gguf writes LlamaForCausalLM, not LlavaForConditionalGeneration"),
        (
            lambda: tiny_llama(
                rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
            ),
            "tiny-llama scales its rotary positions (linear)",
        ),
        (lambda: tiny_llama(hidden_act="gelu"), "tiny-llama has the activation gelu"),
        (lambda: tiny_llama(attention_bias=True), "tiny-llama has biases"),
        (
            lambda: tiny_llama(tokenizer=byte_tokenizer(normalizer=normalizers.Lowercase())),
            "is a BPE behind ByteLevel and a normalizer",
        ),
        (
            lambda: tiny_llama(tokenizer=byte_tokenizer(pre_tokenizers.Whitespace())),
            "is a BPE behind Whitespace",
        ),
        (lambda: 7, "a model is wanted, got"),
    ],
)
def test_refusals_leave_no_file(make, message, tmp_path):
    with pytest.raises(BridgeError, match=re.escape(message)):
        export_gguf(make(), tmp_path / "out.gguf")
    assert not list(tmp_path.iterdir())


def test_a_model_without_tokenizer_is_refused(tmp_path):
    bare = VLM.of("bare", tiny_llama().model, None)
    with pytest.raises(BridgeError, match="bare has no tokenizer, which a GGUF file holds"):
        export_gguf(bare, tmp_path / "out.gguf")


def test_the_command_writes_it_beside_the_folder(tmp_path, capsys):
    vlm, folder = tiny_llama(), tmp_path / "model"
    vlm.model.save_pretrained(folder)
    vlm.processor.save_pretrained(folder)
    asked = ("prune", folder, "block layers=1", "--out", tmp_path / "small", "--json")
    capsys.readouterr()
    assert run(*asked, "--format", "gguf") == 0
    body = json.loads(capsys.readouterr().out)
    assert body["gguf"] == str(tmp_path / "small" / "model.gguf")
    assert GGUFReader(body["gguf"]).fields["llama.block_count"].contents() == LAYERS - 1
    assert run(*asked, "--format", "ggml") == 2
    assert "unknown format 'ggml'; choose from safetensors, onnx, gguf" in capsys.readouterr().err


ELSEWHERE = """
import json, sys
from llama_cpp import Llama
path, asked = sys.argv[1], json.loads(sys.argv[2])
llama = Llama(path, n_ctx=256, n_threads=1, verbose=False)
said = []
for text in asked:
    ids, llama_ids = llama.tokenize(text.encode(), add_bos=False), []
    for token in llama.generate(ids, temp=0.0, repeat_penalty=1.0):
        llama_ids.append(token)
        if len(llama_ids) == 24 or token == llama.token_eos():
            break
    llama.reset()
    said.append([ids, llama_ids])
print(json.dumps(said))
"""


def test_weights_that_no_plain_llama_has_are_refused(tmp_path):
    vlm = tiny_llama()
    with torch.no_grad():
        vlm.model.model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    with pytest.raises(BridgeError, match=r"layers\.1\.mlp\.up_proj\.weight .*not a finite"):
        export_gguf(vlm, tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


def test_another_class_is_refused_before_anything_is_written(tmp_path, capsys):
    vlm = tiny_llava()
    vlm.model.save_pretrained(tmp_path / "model")
    processor().save_pretrained(tmp_path / "model")
    out = tmp_path / "small"
    asked = ("prune", tmp_path / "model", "block layers=1", "--format", "gguf", "--out", out)
    assert run(*asked) == 2
    assert "export_gguf writes LlamaForCausalLM" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.full
def test_llama_cpp_says_what_transformers_says(tmp_path):
    """A pruned SmolLM2: equal token ids of prompts, equal greedy tokens."""
    python = os.environ.get("SKIPIT_LLAMA_PYTHON")
    if not python:
        pytest.skip("SKIPIT_LLAMA_PYTHON names no Python with llama-cpp-python")
    folder = vb.prune(vb.load("smollm2-135m"), "block layers=17", tmp_path / "small")
    path = export_gguf(folder, tmp_path / "small.gguf")
    small = vb.load(folder)
    asked = ["The capital of France is", "def add(a, b):\n    return", "In 1969 the first men"]
    made = subprocess.run(
        [python, "-c", ELSEWHERE, str(path), json.dumps(asked)],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    for text, (ids, said) in zip(asked, json.loads(made.stdout), strict=True):
        assert ids == small.tokenizer(text)["input_ids"], text
        found = small.model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=24)
        assert said == found[0, len(ids) :].tolist(), text


@pytest.mark.slow
def test_a_pruned_smollm2_is_read_back_with_equal_logits(tmp_path):
    vlm = vb.load("reference")
    text = VLM.of("text", LlamaForCausalLM(vlm.layout.text_config), byte_tokenizer())
    text.model.model.load_state_dict(vlm.layout.decoder.state_dict())
    text.model.tie_weights()
    whole = VLM.of("text", text.model.eval(), vlm.tokenizer)
    folder = vb.prune(whole, "block layers=11,17", tmp_path / "small")
    path = export_gguf(folder, tmp_path / "small.gguf")
    ids = torch.as_tensor(np.arange(100, 160))[None]
    with torch.no_grad():
        expected = vb.load(folder).model(ids).logits
        torch.testing.assert_close(read_back(path)(ids).logits, expected)
