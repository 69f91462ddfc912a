"""Selectors of token pruning against loops and closed forms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vlm_bridge.selectors import farthest_first, largest_determinant, relevant_words
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.selectors import SELECTORS, read_selector
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip.pass_state import PassState
from vlm_bridge.skip.selectors import _PICKS, choose_by
from vlm_bridge.skip.selectors.cdpruner import cdpruner_places
from vlm_bridge.skip.selectors.dart import PIVOTS, dart_places
from vlm_bridge.skip.selectors.divprune import divprune_places
from vlm_bridge.skip.selectors.raters import RATERS
from vlm_bridge.skip.selectors.sparsevlm import relevant_text

PICKS = pytest.mark.parametrize("name", _PICKS)


def noise(n, width, seed):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@PICKS
@settings(max_examples=40)
@given(
    n=st.integers(1, 30),
    share=st.floats(0.01, 0.99),
    words=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_as_many_as_asked_and_none_twice(name, n, share, words, seed):
    quota = max(1, round(share * n))
    found = _PICKS[name](noise(n, 6, seed), noise(words, 6, seed + 1), quota, seed).tolist()
    assert len(set(found)) == len(found) == quota
    assert set(found) <= set(range(n))


@PICKS
def test_equal_tokens_are_no_error(name):
    """All alike, or all zero: no distance and no direction tells them apart."""
    for features in (torch.ones(7, 4), torch.zeros(7, 4)):
        found = _PICKS[name](features, features[:2], 5, 0).tolist()
        assert len(set(found)) == 5


@pytest.mark.parametrize("name", ["divprune", "dart", "cdpruner"])
def test_what_reads_states_follows_the_tokens(name):
    """The same tokens in another order are the same choice."""
    features, text = noise(20, 8, 0), noise(5, 8, 1)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    first = _PICKS[name](features, text, 8, 0)
    again = order[_PICKS[name](features[order], text, 8, 0)]
    assert set(first.tolist()) == set(again.tolist())


@given(n=st.integers(2, 15), seed=st.integers(0, 999), data=st.data())
def test_divprune_is_farthest_first(n, seed, data):
    quota = data.draw(st.integers(1, n))
    features = noise(n, 5, seed)
    assert divprune_places(features, features[:0], quota, 0).tolist() == farthest_first(
        features, quota
    )


@given(n=st.integers(2, 8), seed=st.integers(0, 999))
def test_cdpruner_takes_the_largest_determinant(n, seed):
    features, text, quota = noise(n, 12, seed).double(), noise(3, 12, seed + 1).double(), n // 2 + 1
    unit = torch.nn.functional.normalize(features, dim=-1)
    cosine = torch.cosine_similarity(features, text.mean(0)[None])
    relevance = (cosine - cosine.min() + 1e-6) / (cosine.max() - cosine.min() + 1e-6)
    kernel = relevance[:, None] * (unit @ unit.T) * relevance
    found = cdpruner_places(features, text, quota, 0).tolist()
    assert found[: n - 1] == largest_determinant(kernel, quota)[: n - 1]


@pytest.mark.parametrize("noise", range(20))
def test_cdpruner_without_text_takes_the_first_token_first(noise):
    """All are equally relevant; rounding of the features decides nothing."""
    features = torch.randn(9, 32, generator=torch.Generator().manual_seed(1))
    moved = features * (
        1 + 1e-7 * torch.randn(9, 32, generator=torch.Generator().manual_seed(noise))
    )
    places = cdpruner_places(moved, torch.zeros(0, 32), 3, 0).tolist()
    assert places == cdpruner_places(features, torch.zeros(0, 32), 3, 0).tolist()
    assert places[0] == 0


def test_cdpruner_wants_what_the_question_is_about():
    features = torch.eye(4)
    for wanted in range(4):
        assert int(cdpruner_places(features, features[wanted][None], 1, 0)) == wanted


def test_dart_leaves_out_copies_of_its_pivots():
    pivots = 9 * torch.eye(8)[:1].repeat(PIVOTS, 1)
    copies = pivots.repeat(3, 1) / 2  # the same direction, shorter
    others = torch.eye(8)[1:5]
    features = torch.cat([pivots, copies, others])
    found = dart_places(features, features[:0], 8, 0).tolist()
    assert set(found) == {0, 1, 2, 3, 16, 17, 18, 19}


def test_random_draws_differ_by_seed_and_all_tokens_come():
    draws = [
        tuple(sorted(_PICKS["random"](torch.zeros(12, 1), torch.zeros(0, 1), 4, s).tolist()))
        for s in range(200)
    ]
    assert len(set(draws)) > 150
    counts = torch.bincount(torch.tensor(draws).flatten(), minlength=12)
    assert counts.min() > 40  # 200 draws of 4 among 12: 67 each


@pytest.mark.parametrize("name", _PICKS)
def test_a_ragged_batch_is_its_prompts_one_by_one(name):
    flags = torch.tensor([[0, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]).bool()
    states = noise(18, 7, 3).view(3, 6, 7)
    choose = choose_by(name)

    def of(rows):
        now = PassState(flags[rows], keep=[0.5])
        now.received = states[rows, :, 0]
        return choose(states[rows], now, 0)

    together = of(slice(3))
    for i in range(2):
        alone = of(slice(i, i + 1))
        torch.testing.assert_close(together[i : i + 1], alone)
    assert together.sum(1).tolist() == [2, 1, 0]
    assert not together[~flags].any()


def test_visionzip_takes_what_receives_most():
    """Whatever the states say; without an encoder's scores it says so."""
    flags, states = torch.tensor([[0, 1, 1, 1, 1]]).bool(), noise(5, 2, 0)[None]
    now = PassState(flags, keep=[0.5])
    with pytest.raises(BridgeError, match="images of this pass were not encoded in the block"):
        choose_by("visionzip")(states, now, 0)
    now.received = torch.tensor([[9.0, 0.1, 0.3, 0.1, 0.1]])
    assert choose_by("visionzip")(states, now, 0).tolist() == [[False, True, True, False, False]]


def rated(states, now):
    """Position -> weight of the raters of every sequence, zeros left out."""
    rows, weights = relevant_text(states, now, 0)
    return [
        {p: w for p, w in zip(*pair, strict=True) if w}
        for pair in zip(rows.tolist(), weights.tolist(), strict=True)
    ]


@given(data=st.data(), seed=st.integers(0, 999))
def test_sparsevlm_raters_are_the_words_above_the_mean(data, seed):
    """Ragged batches with padding on both sides, against a loop over the bare prompts."""
    n, length = data.draw(st.integers(1, 3)), data.draw(st.integers(3, 9))
    kinds = [
        [data.draw(st.booleans()) for _ in range(data.draw(st.integers(1, length)))]
        for _ in range(n)
    ]
    starts = [data.draw(st.integers(0, length - len(row))) for row in kinds]
    flags = torch.zeros(n, length, dtype=torch.bool)
    for row, start, found in zip(kinds, starts, flags, strict=True):
        found[start : start + len(row)] = torch.tensor(row)
    ends = [start + len(row) - 1 for row, start in zip(kinds, starts, strict=True)]
    states = noise(n * length, 4, seed).view(n, length, 4)
    found = rated(states, PassState(flags, last=torch.tensor(ends)[:, None], keep=[0.5]))
    for row, start, prompt, weights in zip(kinds, starts, states, found, strict=True):
        assert sum(weights.values()) == pytest.approx(1)
        if any(row):
            raters = relevant_words(prompt[start : start + len(row)], torch.tensor(row))
            assert sorted(weights) == [start + place for place in raters]
            assert len(set(weights.values())) == 1


def test_sparsevlm_asks_the_words_about_the_image():
    """Only the second of three words is alike the image; words before the image do not count."""
    image, other = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 1.0])
    states = torch.stack([image, image, image, other, image, other])[None]
    flags = torch.tensor([[0, 1, 1, 0, 0, 0]]).bool()
    assert rated(states, PassState(flags, keep=[0.5])) == [{4: 1.0}]
    alike = torch.ones(1, 6, 2)  # no word is above the mean: all rate
    assert rated(alike, PassState(flags, keep=[0.5])) == [
        pytest.approx(dict.fromkeys((3, 4, 5), 1 / 3))
    ]
    at_end = torch.tensor([[0, 0, 0, 0, 1, 1]]).bool()  # no word follows: the last token rates
    assert rated(states, PassState(at_end, keep=[0.5])) == [{5: 1.0}]


def test_every_selector_has_a_form():
    assert {name for name, s in SELECTORS.items() if s.reads != "attention"} == set(_PICKS)
    assert {name for name, s in SELECTORS.items() if s.reads == "attention"} == set(RATERS)
    assert all(s.source and s.deviation for s in SELECTORS.values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("best", "unknown selector 'best'; choose from fastv, sparsevlm, random"),
        ("uniform:1", "uniform draws nothing, so it takes no seed"),
        ("random:", "a seed is a whole number"),
        ("random:-1", "a seed is a whole number"),
        ("random:1.5", "a seed is a whole number"),
        ("", "unknown selector ''"),
    ],
)
def test_wrong_words_are_refused(words, message):
    with pytest.raises(BridgeError, match=message):
        read_selector(words)
    with pytest.raises(BridgeError, match=message):
        SkipPlan("token_pruning", 4, after=1, keep=0.5, select=words)


def test_plans_with_a_selector():
    old = SkipPlan("token_pruning", 4, after=1, keep=0.5)
    assert "select" not in old.to_json()
    assert old == SkipPlan("token_pruning", 4, after=1, keep=0.5, select="fastv")
    new = SkipPlan("token_pruning", 4, after=0, keep=0.5, select="random:7")
    assert SkipPlan.from_json(new.to_json()) == new
    assert new.hash() != SkipPlan("token_pruning", 4, after=0, keep=0.5, select="random").hash()
    assert new.describe() == (
        "keep 50% of vision tokens in layers >= 0 by random:7 (token_pruning, 4 layers)"
    )
    assert (new.first_layer, new.scored_layers, old.first_layer) == (0, (), 0)
    both = SkipPlan.compose(new, SkipPlan("freeze", 4, layers=(2,)))
    assert SkipPlan.from_json(both.to_json()) == both
    assert both.select == "random:7"
    with pytest.raises(BridgeError, match="fastv reads the attention of the layer before"):
        SkipPlan("token_pruning", 4, after=0, keep=0.5)
    with pytest.raises(BridgeError, match="sparsevlm reads the attention of the layer before"):
        SkipPlan("token_pruning", 4, after=0, keep=0.5, select="sparsevlm")
    with pytest.raises(BridgeError, match="freeze takes no 'select'"):
        SkipPlan("freeze", 4, layers=(1,), select="uniform")
    with pytest.raises(BridgeError, match="select must be text, got 3"):
        SkipPlan("token_pruning", 4, after=1, keep=0.5, select=3)


def test_divprune_compares_two_tokens_alike():
    """The earlier of two stays; the last bits of a matrix product need not be symmetric."""
    draw = torch.Generator().manual_seed(0)
    for width in range(3, 200):
        features = torch.randn(2, width, generator=draw)
        assert divprune_places(features, features[:0], 1, 0).tolist() == [0]
