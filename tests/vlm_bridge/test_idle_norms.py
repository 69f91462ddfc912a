"""Norms before a sublayer that does not run are left out, and only those."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2Config, Gemma2DecoderLayer
from transformers.models.llama.modeling_llama import LlamaConfig, LlamaDecoderLayer
from transformers.models.phi.modeling_phi import PhiConfig, PhiDecoderLayer

from benchmarks._llava import prompt, random_llava
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping
from vlm_bridge.skip.sublayers import idle_norms

WIDTH = 32
SIZES = {
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_hidden_layers": 1,
}
ATTENTION, MLP = (False, True), (True, False)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (
            LlamaDecoderLayer(LlamaConfig(**SIZES), 0),
            {ATTENTION: ["input_layernorm"], MLP: ["post_attention_layernorm"]},
        ),
        (
            Gemma2DecoderLayer(Gemma2Config(**SIZES), 0),
            {
                ATTENTION: ["input_layernorm", "post_attention_layernorm"],
                MLP: ["pre_feedforward_layernorm", "post_feedforward_layernorm"],
            },
        ),
        # One norm feeds both sublayers; its dropouts are no norms.
        (PhiDecoderLayer(PhiConfig(**SIZES), 0), {ATTENTION: [], MLP: []}),
    ],
    ids=["llama", "gemma2", "phi"],
)
def test_idle_norms_feed_what_does_not_run_only(layer: nn.Module, expected):
    def idle(attention: bool, mlp: bool) -> list[str]:
        found = idle_norms(layer, WIDTH, attention=attention, mlp=mlp)
        return [name for name, child in layer.named_children() if child in found]

    assert idle(True, True) == []
    assert {runs: idle(*runs) for runs in (ATTENTION, MLP)} == expected
    norms = [name for name, _ in layer.named_children() if name.endswith("layernorm")]
    assert idle(False, False) == norms


def test_an_idle_norm_does_not_run_unless_someone_looks():
    vlm, inputs = random_llava(width=64, layers=3), prompt(1)
    plan = SkipPlan("sublayer", vlm.layout.n_layers, attention=(1,), mlp=(2,))
    seen: list[torch.Tensor] = []
    layers: list = list(vlm.layout.layers)
    norm, calls = layers[1].input_layernorm, []

    class Counted(type(norm)):  # counts calls by its class, which no block replaces
        def forward(self, states):
            calls.append(1)
            return super().forward(states)

    norm.__class__ = Counted

    def logits() -> torch.Tensor:
        with torch.no_grad(), skipping(vlm, plan):
            return vlm.model(**inputs, use_cache=False, logits_to_keep=1).logits

    unseen = logits()
    calls.clear()  # of the trials, once per layer
    assert torch.equal(logits(), unseen)
    assert not calls
    with norm.register_forward_hook(lambda _, __, output: seen.append(output)):
        assert torch.equal(logits(), unseen)
    assert len(calls) == 1
    assert (seen[0].pow(2).mean(-1) - 1).abs().max() < 0.05
