"""Sampled lossless answers have exactly the distribution of the full model's."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import vlm_bridge as vb
from tests.vlm_bridge.tiny import batch, tiny_llava
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip.lossless import rule
from vlm_bridge.skip.lossless.rule import Draws, Sampling, keep_chance, residual

PLANS = {
    "block": SkipPlan("block", 4, layers=(1,)),
    "all blocks": SkipPlan("block", 4, layers=(0, 1, 2, 3)),
    "sublayer": SkipPlan("sublayer", 4, attention=(0,), mlp=(2,)),
}


def distributions(size):
    weights = st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=size, max_size=size)
    return weights.filter(any).map(lambda w: torch.tensor(w, dtype=torch.double) / sum(w))


@settings(max_examples=200, deadline=None)
@given(p=distributions(5), q=distributions(5))
def test_one_token_has_the_distribution_of_the_full_model(p, q):
    """sum over x of q(x) [keep(x) 1{x = y} + (1 - keep(x)) residual(y)] = p(y)."""
    tokens = q.nonzero()[:, 0]
    keep = torch.zeros(5, dtype=torch.double)
    keep[tokens] = keep_chance(p.expand(len(tokens), -1), q.expand(len(tokens), -1), tokens)
    made = q * keep + (q * (1 - keep)).sum() * residual(p, q)
    torch.testing.assert_close(made, p)


class Enumerated:
    """Draws that follow a script and note the alternatives, so that all outcomes can be run."""

    def __init__(self, script):
        self.script, self.options, self.weight = script, [], 1.0

    def _pick(self, chances):
        possible = [i for i, chance in enumerate(chances) if chance > 0]
        place = len(self.options)
        choice = self.script[place] if place < len(self.script) else 0
        self.options.append(len(possible))
        self.weight *= chances[possible[choice]]
        return possible[choice]

    def choose(self, probabilities):
        return torch.tensor([self._pick(row) for row in probabilities.tolist()])

    def happens(self, chance):
        flat = [self._pick([1 - c, c]) == 1 for c in chance.flatten().tolist()]
        return torch.tensor(flat).view(chance.shape)


def outcomes(run, monkeypatch):
    """Sequence -> probability, over all outcomes of all random numbers."""
    found, script = Counter(), []
    while True:
        draws = Enumerated(script)
        monkeypatch.setattr(rule, "Draws", lambda _, draws=draws: draws)
        found[run()] += draws.weight
        taken = [*script, *[0] * (len(draws.options) - len(script))]
        while taken and taken[-1] + 1 >= draws.options[len(taken) - 1]:
            taken.pop()
        if not taken:
            return found
        script = [*taken[:-1], taken[-1] + 1]


def by_hand(logits, temperature, top_k, top_p):
    """Softmax of logits (vocabulary) over the tokens that top_k and then top_p leave."""
    scores = logits.double() / temperature
    if top_k:
        scores[scores < scores.topk(top_k).values[-1]] = -torch.inf
    chances, order = scores.softmax(-1).sort(descending=True)
    before = chances.cumsum(0) - chances
    scores[order[before >= top_p]] = -torch.inf
    return scores.softmax(-1)


def truth(vlm, inputs, tokens, **options):
    """Sequence -> probability under the full model, one pass for every prefix."""
    found = {(): 1.0}
    for _ in range(tokens):
        longer = {}
        for prefix, weight in found.items():
            ids = torch.cat([inputs["input_ids"], torch.tensor([prefix], dtype=torch.long)], 1)
            rest = {n: v for n, v in inputs.items() if n not in ("input_ids", "attention_mask")}
            with torch.no_grad():
                logits = vlm.model(input_ids=ids, **rest, use_cache=False).logits[0, -1]
            chances = by_hand(logits, **options)
            for token in chances.nonzero()[:, 0].tolist():
                longer[(*prefix, token)] = weight * float(chances[token])
        found = longer
    return found


def model(seed):
    """No end of text and no image in the answers, so that all have the same length."""
    vlm = tiny_llava(seed=seed)
    vlm.model.generation_config.eos_token_id = None
    vlm.model.generation_config.suppress_tokens = None
    with torch.no_grad():
        vlm.model.get_output_embeddings().weight.mul_(0.25)  # several tokens are likely
    return vlm


@pytest.mark.parametrize(
    ("plan", "tokens", "k", "top_k", "top_p", "temperature"),
    [
        pytest.param("block", 4, 2, 2, 1.0, 1.0, marks=pytest.mark.slow),
        pytest.param("all blocks", 4, 3, 2, 1.0, 0.7, marks=pytest.mark.slow),
        ("sublayer", 3, 1, 3, 1.0, 1.8),
        pytest.param("block", 3, 4, 4, 0.8, 1.3, marks=pytest.mark.slow),
        ("all blocks", 2, 1, 5, 1.0, 1.0),
        ("block", 3, 2, 3, 0.8, 1.3),
        ("all blocks", 4, 2, 2, 1.0, 0.7),
    ],
)
def test_all_outcomes_together(plan, tokens, k, top_k, top_p, temperature, monkeypatch):
    """Every random number integrated: the distribution of whole answers, to rounding."""
    vlm, inputs = model(3), batch("no image")
    inputs = {name: value[:1] for name, value in inputs.items()}
    assert inputs["attention_mask"].all()
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}

    def run():
        return vb.generate_lossless(
            vlm,
            inputs,
            PLANS[plan],
            draft_tokens=k,
            max_new_tokens=tokens,
            do_sample=True,
            **options,
        ).tokens[0]

    found = outcomes(run, monkeypatch)
    want = truth(vlm, inputs, tokens, **options)
    assert sum(found.values()) == pytest.approx(1)
    assert set(found) == set(want)
    for sequence, chance in want.items():
        assert found[sequence] == pytest.approx(chance, abs=1e-5)


def test_the_draft_would_have_another_distribution():
    """Otherwise the tests above could not fail."""
    vlm, inputs = model(3), {n: v[:1] for n, v in batch("no image").items()}
    options = {"temperature": 1.0, "top_k": 2, "top_p": 1.0}
    full = truth(vlm, inputs, 2, **options)
    for plan in PLANS.values():
        with vb.skipping(vlm, plan):
            skipped = truth(vlm, inputs, 2, **options)
        sequences = {*full, *skipped}
        apart = sum(abs(full.get(s, 0) - skipped.get(s, 0)) for s in sequences) / 2
        assert apart > 0.05


@pytest.mark.parametrize("plan", PLANS)
def test_a_large_batch_of_two_prompts(plan):
    """Rows of one batch accept different numbers and stay independent: chi-square by prompt."""
    vlm, inputs = model(7), batch("no image")
    rows = 1500
    many = {n: v.repeat_interleave(rows, dim=0) for n, v in inputs.items()}
    found = vb.generate_lossless(
        vlm,
        many,
        PLANS[plan],
        draft_tokens=2,
        max_new_tokens=3,
        do_sample=True,
        top_k=3,
        generator=torch.Generator().manual_seed(11),
    )
    assert len({*found.accepted}) > 1
    for prompt in range(2):
        mask = inputs["attention_mask"][prompt].bool()
        alone = {"input_ids": inputs["input_ids"][prompt : prompt + 1, mask]}
        want = truth(vlm, alone, 3, temperature=1.0, top_k=3, top_p=1.0)
        seen = Counter(found.tokens[prompt * rows : (prompt + 1) * rows])
        assert set(seen) <= set(want)
        # Sequences that are rarely expected share a cell, as the test needs.
        rare = {s for s, chance in want.items() if chance * rows < 5}
        cells = [([s], want[s]) for s in want if s not in rare]
        if rare:
            cells.append((list(rare), sum(want[s] for s in rare)))
        counts = [sum(seen[s] for s in names) for names, _ in cells]
        expected = [chance * rows for _, chance in cells]
        assert stats.chisquare(counts, expected, sum_check=False).pvalue > 1e-3


def test_a_seed_repeats_an_answer():
    vlm, inputs = model(5), batch("padded")

    def sample(seed):
        return vb.generate_lossless(
            vlm,
            inputs,
            PLANS["block"],
            do_sample=True,
            max_new_tokens=8,
            generator=torch.Generator().manual_seed(seed),
        )

    assert sample(1) == sample(1)
    assert len({sample(seed).tokens for seed in range(4)}) == 4


def test_equal_distributions_are_always_accepted():
    """p = q to rounding: nothing is rejected, and no token comes from an empty residual."""
    torch.manual_seed(0)
    scores = torch.randn(50, 4, 30)
    rule_ = Sampling(Draws(torch.Generator().manual_seed(0)))
    pairs = [rule_.propose(scores[:, i]) for i in range(3)]
    drafted = torch.stack([token for token, _ in pairs], 1)
    kept, behind = rule_.judge(scores, drafted, [q for _, q in pairs])
    assert kept.tolist() == [3] * 50
    assert behind.shape == (50,)
    assert torch.equal(residual(pairs[0][1], pairs[0][1]), pairs[0][1])


def test_disjoint_supports_are_never_accepted():
    p, q = torch.zeros(6), torch.zeros(6)
    p[:3], q[3:] = 1 / 3, 1 / 3
    for token in range(3, 6):
        assert keep_chance(p[None], q[None], torch.tensor([token])).item() == 0
    assert torch.equal(residual(p, q), p)


def test_every_option_is_tried_by_the_enumeration(monkeypatch):
    """The helper itself: three binary draws have eight outcomes of the right weights."""

    def run():
        draws = rule.Draws(None)
        return tuple(int(draws.choose(torch.tensor([[0.25, 0.75]]))) for _ in range(3))

    found = outcomes(run, monkeypatch)
    for bits in itertools.product((0, 1), repeat=3):
        assert found[bits] == pytest.approx(0.25 ** bits.count(0) * 0.75 ** bits.count(1))
