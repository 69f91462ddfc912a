"""What later layers read of vision, as rules: against the planted truth, by hand, and refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from estimators.clustered import image_mean
from tests.vlm_bridge.families.processors import with_processor
from tests.vlm_bridge.profiles import made_profile
from tests.vlm_bridge.tiny import picture, tiny_llava
from theory.systems import toy_vlm
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.toy import toy_items, toy_llava
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence, find_rule, nested_plans, score_units
from vlm_bridge.rules.measure.candidates import CandidateRun
from vlm_bridge.rules.measure.observed_updates import readers
from vlm_bridge.rules.measure.vision_swap import about_next_image, vision_swap_kl
from vlm_bridge.rules.published.information_horizon import InformationHorizon
from vlm_bridge.skip import skipping


@pytest.fixture(scope="module")
def toy():
    return toy_vlm()


@pytest.fixture(scope="module")
def asked(toy, tmp_path_factory):
    """Both questions about one image of each class."""
    return toy_items(toy, tmp_path_factory.mktemp("toy"), images=len(toy.vision))


@pytest.fixture(scope="module")
def evidence(toy, asked):
    return Evidence(toy_llava(toy), asked)


def answers(vlm, items, plan=None, picture_of=lambda item: item):
    """Log-probabilities of the first answer token, one question at a time, in the plain form."""
    found = []
    for item in items:
        (one,) = batches(vlm, [picture_of(item)], batch_size=1)
        with torch.no_grad():
            if plan is None:
                logits = vlm.model(**one.inputs).logits
            else:
                with skipping(vlm, plan, fast=False):
                    logits = vlm.model(**one.inputs).logits
        found.append(logits[0, -1].double().log_softmax(-1))
    return torch.stack(found)


def mean_kl(one, other, items):
    kl = (one.exp() * (one - other)).sum(-1).numpy()
    return float(image_mean(kl, [item.cluster for item in items]))


# --- information-horizon ----------------------------------------------------------------------


def test_the_horizon_of_the_toy_is_where_text_has_copied_the_image(toy, evidence):
    rule = find_rule("information-horizon")
    score = score_units(rule, evidence, "early_exit")
    safe = [depth - 1 for depth in toy.truth.safe_exits if depth < toy.n_layers]
    needed = [unit for unit in range(toy.n_layers - 1) if unit not in safe]
    assert np.abs(score[safe]).max() < 1e-6
    # Without vision the toy says "unsure", with it the right answer, both nearly surely.
    assert score[needed].min() > 0.9
    assert rule.horizon(evidence) == min(toy.truth.safe_exits) == needed[-1] + 2
    # All four tokens of an image say the same, so that half of them say everything.
    assert score_units(rule, evidence, "token_pruning").max() < 1e-6
    assert rule.horizon(evidence, "token_pruning") == 1


class Made(Evidence):
    """Evidence whose candidates change the answer's probability by numbers of the test."""

    def __init__(self, changes: list[float]) -> None:
        super().__init__(profile=made_profile(len(changes) + 1, image=[0.1] * (len(changes) + 1)))
        self.changes, self.asked = changes, list[SkipPlan]()

    def candidates(self, plans):
        self._check_allowed("candidate runs", "candidates")
        self.asked += plans
        return [
            CandidateRun(plan, 9.0, 9.0, 9.0, 0.0, change, 1.0)
            for plan, change in zip(plans, self.changes, strict=True)
        ]


def test_information_that_returns_has_not_vanished():
    made = Made([0.5, 0.0, 0.2, 0.001])
    rule = InformationHorizon(eta=0.01)
    assert score_units(rule, made).tolist() == [0.5, 0.2, 0.2, 0.001]
    assert rule.horizon(made) == 4
    assert replace(rule, eta=0.3).horizon(made) == 2
    assert replace(rule, eta=0.0).horizon(made) is None
    assert {plan.exit for plan in made.asked} == {1, 2, 3, 4}


def test_beyond_the_horizon_tokens_are_pruned_at_random():
    made = Made([0.4, 0.3, 0.2, 0.1])
    rule = InformationHorizon(keep=0.25)
    assert score_units(rule, made, "token_pruning").tolist() == [0.4, 0.3, 0.2, 0.1]
    plans = nested_plans(rule, made, "token_pruning")
    assert [(plan.after, plan.keep, plan.select) for plan in plans] == [
        (after, 0.25, "random") for after in (4, 3, 2, 1)
    ]
    assert [plan.hash() for plan in made.asked] == [plan.hash() for plan in plans[::-1]]


def test_information_is_the_change_of_the_answers_probability(items):
    vlm = tiny_llava()
    n = vlm.layout.n_layers
    full = answers(vlm, items).exp()
    own = full.argmax(-1, keepdim=True)
    plans = {
        "early_exit": [SkipPlan("early_exit", n, exit=k) for k in range(1, n)],
        "token_pruning": [
            SkipPlan("token_pruning", n, after=k, keep=0.5, select="random") for k in range(1, n)
        ],
    }
    evidence = Evidence(vlm, items)
    for mode, of_mode in plans.items():
        changes = []
        for plan in of_mode:
            without = answers(vlm, items, plan).exp()
            change = (without.gather(-1, own) - full.gather(-1, own)).abs()[:, 0].numpy()
            changes.append(float(image_mean(change, [item.cluster for item in items])))
        expected = [max(changes[k:]) for k in range(len(changes))]
        found = score_units(find_rule("information-horizon"), evidence, mode)
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)
        assert max(expected) > 1e-3
    spent = evidence.spent["information-horizon"]
    # Exits 1 to 3 of 4 layers; pruning after 1 to 3 runs no layer before, random reads none.
    assert sum(spent.values()) == 1.0 + 2 * (3 + 2 + 1) / 4


# --- vision-swap ------------------------------------------------------------------------------


def test_a_swap_on_the_toy_asks_about_the_other_image(toy, evidence, asked):
    """Before the copy the answer is that about the other image; after it nothing changes."""
    score = score_units(find_rule("vision-swap"), evidence)
    vlm, others = toy_llava(toy), dict(zip(asked, about_next_image(asked), strict=True))
    swapped, full = answers(vlm, asked, picture_of=others.get), answers(vlm, asked)
    copied = min(toy.truth.safe_exits)
    assert score[: copied - 1] == pytest.approx(mean_kl(swapped, full, asked), rel=1e-3)
    assert np.abs(score[copied - 1 :]).max() < 1e-6
    assert mean_kl(swapped, full, asked) > 5
    assert evidence.spent["vision-swap"]["vision states swapped"] == 1 + (toy.n_layers - 1) / 2


@torch.no_grad()
def test_a_swap_is_reproduced_from_its_definition(items):
    """Question by question, with the states of a pass about the next image put in by a hook."""
    vlm = tiny_llava()
    score = vision_swap_kl(vlm, items, batch_size=4)
    full = answers(vlm, items)
    for depth in range(1, vlm.layout.n_layers):
        found = []
        for item, other in zip(items, about_next_image(items), strict=True):
            assert (item.question, item.image) != (other.question, other.image)
            (one,), (two,) = (batches(vlm, [each], batch_size=1) for each in (item, other))
            states = vlm.model(**two.inputs, output_hidden_states=True).hidden_states[depth]
            seen = one.inputs["input_ids"] == 3

            def put(_, args, states=states, seen=seen):
                return (torch.where(seen[..., None], states, args[0]), *args[1:])

            handle = vlm.layout.layers[depth].register_forward_pre_hook(put)
            logits = vlm.model(**one.inputs).logits
            handle.remove()
            found.append(logits[0, -1].double().log_softmax(-1))
        expected = mean_kl(torch.stack(found), full, items)
        assert score[depth - 1] == pytest.approx(expected, rel=1e-3, abs=1e-7)
        assert expected > 1e-4


def test_each_image_gives_way_to_the_next(tmp_path):
    for name in "abc":
        picture(ord(name)).save(tmp_path / f"{name}.png")
    asked = [Item(tmp_path / f"{name}.png", f"{name} ?", cluster=name) for name in "aabc"]
    others = about_next_image(asked)
    assert [item.cluster for item in others] == ["b", "b", "c", "a"]
    assert [item.image.stem for item in others] == ["b", "b", "c", "a"]
    assert [item.question for item in others] == [item.question for item in asked]
    with pytest.raises(BridgeError, match="at least two images, and a is the only one"):
        about_next_image(asked[:2])


def test_images_of_other_sizes_are_refused(tmp_path):
    """Qwen2.5-VL fits pictures into an area, so that a wide one has another number of tokens."""
    vlm, asked = with_processor("Qwen2.5-VL"), []
    for number, width in enumerate((56, 56, 112)):
        path = tmp_path / f"{number}.png"
        picture(number).resize((width, 56)).save(path)
        asked.append(Item(path, "what is red ?", cluster=path.stem))
    rule = find_rule("vision-swap")
    assert np.isfinite(score_units(rule, Evidence(vlm, asked[:2]))).all()
    with pytest.raises(
        BridgeError,
        match=r"'1.png.*' has 4 vision .* '2.png.*' has 2, so that .* images of one size",
    ):
        score_units(rule, Evidence(vlm, asked))


# --- attend-transform -------------------------------------------------------------------------


def test_observed_updates_of_the_toy_are_known(toy, evidence):
    """Lengths and attention follow from the construction.

    Every state has length sqrt(12), three times that of vision after `scale_vision`. Layers with
    no attention weights attend to all six tokens alike, four of which are vision; `copy` attends
    to vision alone.
    """
    layers = {kind: toy.schedule.index(kind) for kind in ("encode", "scale_vision", "copy")}
    scaled, copied = layers["scale_vision"], layers["copy"]

    def read(after):
        """Sum over later layers of attention to vision over the length of its state."""
        later = range(after + 1, toy.n_layers)
        mass = [1.0 if layer == copied else 4 / 6 for layer in later]
        length = [np.sqrt(12) * (3.0 if layer > scaled else 1.0) for layer in later]
        return sum(np.array(mass) / length)

    last_kernel = len(toy.schedule) - 1
    first_kernel, kernel = (i for i, k in enumerate(toy.schedule) if k == "kernel" and i < 10)
    turn = 2 * 2 * np.sin(np.pi / 3)  # an amplitude of 2 turned by 120 degrees
    expected = np.zeros(toy.n_layers)
    expected[layers["encode"]] = np.sqrt(2) * read(layers["encode"])  # 1 leaves raw, 1 enters img
    expected[first_kernel] = turn * read(first_kernel)
    expected[scaled] = 2 * np.sqrt(12) * read(scaled)
    expected[kernel] = 3 * turn * read(kernel)
    rule = find_rule("attend-transform")
    assert score_units(rule, evidence, "vision_mlp") == pytest.approx(expected, abs=1e-4)
    assert score_units(rule, evidence, "freeze") == pytest.approx(expected, abs=1e-4)
    assert score_units(rule, evidence, "vision_attention").max() < 1e-9  # its values are zero
    assert toy.schedule[last_kernel] == "kernel"
    assert expected[last_kernel] == 0.0  # large, and silent: no layer reads it
    assert evidence.spent["attend-transform"] == {"updates that text observes": 1.0}


@torch.no_grad()
def test_observed_updates_are_reproduced_from_their_definition(items):
    """Prompt by prompt, from the modules of a Llama layer and the weights of eager attention."""
    eager = tiny_llava(attention="eager")
    n = eager.layout.n_layers
    expected = np.zeros((3, n, len(items)))
    for place, item in enumerate(items):
        (one,) = batches(eager, [item], batch_size=1)
        seen = (one.inputs["input_ids"][0] == 3).nonzero()[:, 0].tolist()
        words = range(seen[0] + 1, one.inputs["input_ids"].shape[1])
        words = [word for word in words if word not in seen]
        streams = []  # before attention, before the MLP, layer by layer; then the last output

        def keep_input(_, args, streams=streams):
            streams.append(args[0][0])

        def keep_output(_, args, output, streams=streams):
            streams.append(output[0])

        handles = [eager.layout.layers[-1].register_forward_hook(keep_output)]
        for one_layer in eager.layout.layers:
            for norm in (one_layer.input_layernorm, one_layer.post_attention_layernorm):
                handles.append(norm.register_forward_pre_hook(keep_input))
        maps = eager.model(**one.inputs, output_attentions=True).attentions
        for handle in handles:
            handle.remove()
        for layer in range(n):
            before, between, after = streams[2 * layer : 2 * layer + 3]
            for part, (a, b) in enumerate(((before, between), (between, after), (before, after))):
                for v in seen:
                    for j in range(layer + 1, n):
                        attention = np.mean([float(maps[j][0, :, t, v].mean()) for t in words])
                        state = float(streams[2 * j][v].norm())
                        moved = float((b[v] - a[v]).norm())
                        expected[part, layer, place] += moved * attention / state
    means = [image_mean(part.T, [item.cluster for item in items]) for part in expected]
    rule = find_rule("attend-transform")
    for attention in ("sdpa", "eager"):
        evidence = Evidence(tiny_llava(attention=attention), items, batch_size=4)
        for mode, mean in zip(rule.modes, means, strict=True):
            score = score_units(rule, evidence, mode)
            assert score == pytest.approx(mean, rel=1e-4, abs=1e-6)
            assert score[-1] == 0.0
            assert score[:-1].min() > 1e-3


def test_readers_are_the_words_after_the_first_image_token():
    vision = torch.tensor([[0, 0, 1, 1, 0, 1, 0], [0, 0, 0, 0, 0, 1, 1]]).bool()
    real = torch.tensor([[0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]]).bool()
    rows = readers(vision, real)
    assert rows.index[0][rows.valid[0]].tolist() == [4, 6]
    assert not rows.valid[1].any()


def test_attention_that_cannot_be_read_is_refused(items):
    class Own(nn.Module):
        layer_idx = 2

        def forward(self, hidden_states, past_key_values=None, **_):
            return torch.zeros_like(hidden_states), None

    vlm = tiny_llava()
    vlm.layout.layers[2].self_attn = Own()
    with pytest.raises(BridgeError, match="layer 2 of tiny computes its attention without"):
        score_units(find_rule("attend-transform"), Evidence(vlm, items))
