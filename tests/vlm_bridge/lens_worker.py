"""Run by the Python of another environment: real caches of nnsight and TransformerLens, profiled.

Prints, for each tool, our profile of its cache beside that of states that plain hooks captured.
"""

from __future__ import annotations

import json
import tempfile
from typing import Any

import torch
from nnsight import NNsight
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import vlm_bridge as vb
from tests.vlm_bridge.tiny import tokenizer

IDS = torch.randint(0, 50, (4, 7), generator=torch.Generator().manual_seed(0))
MEASURES = ("cosine_distance", "angular_distance", "norm_ratio", "relative_update_norm")


def numbers(states: Any, **options: Any) -> dict[str, list[float]]:
    found = vb.profile_states(states, **options)
    return {measure: found.values("all", measure).tolist() for measure in MEASURES}


@torch.no_grad()
def hooked(model: Any, layers: Any) -> list[torch.Tensor]:
    """State 0 to state L of a pass, by our own hooks."""
    states: list[torch.Tensor] = []

    def hook(_: Any, args: Any, kwargs: Any, output: Any) -> None:
        if not states:
            states.append(args[0] if args else kwargs["hidden_states"])
        states.append(output[0] if isinstance(output, tuple) else output)

    handles = [layer.register_forward_hook(hook, with_kwargs=True) for layer in layers]
    model(IDS)
    for handle in handles:
        handle.remove()
    return states


def llama() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=50,
    )
    config._attn_implementation = "eager"  # that of TransformerLens
    return LlamaForCausalLM(config).eval()


def gpt2() -> Any:
    """A model that adds positions to its embedding."""
    torch.manual_seed(0)
    config = GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=16, vocab_size=50)
    config._attn_implementation = "eager"
    return GPT2LMHeadModel(config).eval()


def of_nnsight() -> dict[str, Any]:
    model = llama()
    traced = NNsight(model)
    with torch.no_grad(), traced.trace(input_ids=IDS):
        states = list().save()
        states.append(traced.model.layers[0].input)
        for layer in traced.model.layers:
            states.append(layer.output)
    with torch.no_grad(), traced.trace(input_ids=IDS) as tracer:
        cache = tracer.cache(modules=[traced.model.embed_tokens, *traced.model.layers])
    expected = numbers(hooked(model, model.model.layers))
    return {"hooks": expected, "list": numbers(states), "cache": numbers(cache)}


def of_transformer_lens(model: Any, layers: Any) -> dict[str, Any]:
    expected = numbers(hooked(model, layers))
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        bridge = TransformerBridge.boot_transformers(folder, hf_model=model)
    with torch.no_grad():
        _, cache = bridge.run_with_cache(IDS)
        _, outputs = bridge.run_with_cache(
            IDS, names_filter=lambda name: name.endswith(("hook_resid_post", "embed"))
        )
    return {"hooks": expected, "cache": numbers(cache), "outputs": numbers(outputs)}


def main() -> None:
    """Print the numbers of each tool, in one line of JSON."""
    found = {"nnsight": of_nnsight()}
    for model, layers in ((llama(), "model.layers"), (gpt2(), "transformer.h")):
        stack = model.get_submodule(layers)
        found[f"TransformerLens of {type(model).__name__}"] = of_transformer_lens(model, stack)
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
