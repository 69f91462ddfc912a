"""Export a text decoder of the Llama architecture as GGUF, the file format of llama.cpp."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from torch import Tensor

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.given import given_model
from vlm_bridge.model.vlm import VLM
from vlm_bridge.runtime.files import new_file

_ARCHITECTURE = "llama"
#: Name of a tensor of a layer in transformers -> its name in GGUF.
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
#: How llama.cpp names the ways to cut text into words before byte-pair merges, by ours.
_CUTS = {("ByteLevel",): "gpt-2", ("Digits", "ByteLevel"): "smollm"}


def export_gguf(model: VLM | str | Path, file: str | Path) -> Path:
    """Write a text model of class `LlamaForCausalLM`, weights in float32, for llama.cpp.

    llama.cpp turns the pairs (2i, 2i + 1) of a head where transformers turns (i, i + d/2), so the
    rows of the query and key projections are put in that order. The tokenizer, a byte-level BPE,
    and the chat template go along. The file is written atomically and holds no code.

    Args:
        model: a model, or its folder or name, such as what `prune` returned.
        file: the file to write; one that exists is replaced.

    Raises:
        BridgeError: another class (of a model with images, llama.cpp wants the encoder in a file of
            its own, which is not written here; use `export_onnx`), scaled rotary positions, another
            kind of tokenizer, or the file cannot be written.

    Example:
        >>> export_gguf("out/smaller", "out/smaller.gguf")  # doctest: +SKIP
        PosixPath('out/smaller.gguf')
    """
    vlm = given_model(model)
    check_gguf(vlm)
    with new_file(Path(file)) as partial:
        writer = gguf.GGUFWriter(partial, _ARCHITECTURE)
        try:
            _add_settings(writer, vlm)
            _add_tokenizer(writer, vlm)
            for name, value in _tensors(vlm):
                writer.add_tensor(name, value)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
    return Path(file)


def check_gguf(vlm: VLM) -> None:
    """Refuse what the settings of the architecture `llama` do not describe."""
    kind, config = type(vlm.model).__name__, vlm.model.config
    if kind != "LlamaForCausalLM":
        raise BridgeError(
            f"export_gguf writes LlamaForCausalLM, not {kind}; for another class, or a model with "
            "images, use export_onnx"
        )
    if (rope := config.rope_parameters["rope_type"]) != "default":
        raise BridgeError(
            f"{vlm.name} scales its rotary positions ({rope}), which export_gguf does not write; "
            "use export_onnx"
        )
    if config.hidden_act != "silu":
        raise BridgeError(
            f"{vlm.name} has the activation {config.hidden_act}; the architecture llama of GGUF "
            "has silu, so use export_onnx"
        )
    if config.attention_bias or config.mlp_bias:
        raise BridgeError(
            f"{vlm.name} has biases, which export_gguf does not write; use export_onnx"
        )
    for name, parameter in vlm.model.named_parameters():
        plain = _gguf_name(name) is not None and parameter.is_floating_point()
        if not plain or not parameter.isfinite().all():
            kind = str(parameter.dtype).removeprefix("torch.")
            raise BridgeError(
                f"{vlm.name} has the weight {name} ({kind}), "
                "which is not a finite floating-point weight of a plain Llama; merge adapters, and "
                "export the model before it is quantised"
            )
    if vlm.processor is None:
        raise BridgeError(
            f"{vlm.name} has no tokenizer, which a GGUF file holds; give it one with "
            "vb.wrap(model, tokenizer)"
        )


def _add_settings(writer: Any, vlm: VLM) -> None:
    config = vlm.model.config
    writer.add_name(vlm.name)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_tokenizer(writer: Any, vlm: VLM) -> None:
    tokenizer: Any = vlm.processor
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    cut = core["pre_tokenizer"] or {}
    cuts = tuple(each["type"] for each in cut.get("pretokenizers", [cut]) if each)
    if core["model"]["type"] != "BPE" or cuts not in _CUTS or core["normalizer"] is not None:
        before = [*cuts, *(["a normalizer"] if core["normalizer"] is not None else [])]
        raise BridgeError(
            f"the tokenizer of {vlm.name} is a {core['model']['type']} behind "
            f"{' and '.join(before) or 'nothing'}; export_gguf writes byte-level BPE alone, so use "
            "export_onnx"
        )
    added = {each["id"]: each for each in core["added_tokens"]}
    known = {number: token for token, number in core["model"]["vocab"].items()}
    known |= {number: each["content"] for number, each in added.items()}
    tokens, kinds = [], []
    for number in range(vlm.model.config.vocab_size):
        tokens.append(known.get(number, f"[PAD{number}]"))
        kind = gguf.TokenType.NORMAL if number in known else gguf.TokenType.UNUSED
        if number in added:
            special = added[number]["special"]
            kind = gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED
        kinds.append(kind)
    merges = core["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_CUTS[cuts])
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_add_bos_token(tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id)
    for name, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("unk", writer.add_unk_token_id),
        ("pad", writer.add_pad_token_id),
    ):
        if (number := getattr(tokenizer, f"{name}_token_id")) is not None:
            add(number)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _tensors(vlm: VLM) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Every tensor of the model under its name in GGUF, tied ones once."""
    config = vlm.model.config
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, parameter in vlm.model.named_parameters():
        value: Tensor = parameter.detach().float().cpu()
        own = _gguf_name(name)
        assert own is not None  # `check_gguf` refuses others
        part = own.split(".")[-2]
        if part in heads:
            value = _turned(value, heads[part])
        yield own, value.contiguous().numpy()


def _gguf_name(name: str) -> str | None:
    """The name of a weight in GGUF, None for one that a plain Llama does not have.

    Example:
        >>> _gguf_name("model.layers.3.self_attn.q_proj.weight")
        'blk.3.attn_q.weight'
        >>> _gguf_name("model.layers.3.self_attn.q_proj.lora_A.default.weight")
    """
    if name in _OUTER:
        return _OUTER[name]
    layer, _, rest = name.removeprefix("model.layers.").partition(".")
    part, _, kind = rest.rpartition(".")
    return f"blk.{layer}.{_LAYER[part]}.{kind}" if part in _LAYER else None


def _turned(value: Tensor, heads: int) -> Tensor:
    """Rows (head, half, i) of a projection in the order (head, i, half)."""
    turned: Tensor = value.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(value.shape)
    return turned
