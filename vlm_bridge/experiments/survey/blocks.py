"""A survey in blocks: whose model, quality, harm by layer, cheap scores, the certified plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from estimators import Estimate, Profile
from estimators.rank_correlation import spearman
from theory import what_it_takes
from theory.certificates.certificate import changed_things, unspoken
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.controls import Controlled
from vlm_bridge.experiments.survey.results import Quality, Survey
from vlm_bridge.figures.blocks import Block
from vlm_bridge.figures.numbers import ranged
from vlm_bridge.plan.modes import MODES, ranges
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import STACKS

#: Random orders that say what a rank correlation is worth.
_ORDERS = 1000
#: Fewest layers whose ranks are correlated.
_FEWEST_TO_RANK = 8
#: Column of single skips -> their mode, and the field that is set.
_COLUMNS = {
    "block": ("block", "layers"),
    "attention": ("sublayer", "attention"),
    "MLP": ("sublayer", "mlp"),
    "freeze": ("freeze", "layers"),
    "exit": ("early_exit", "exit"),
    "entry": ("late_entry", "entry"),
}


def blocks_of(result: Survey) -> list[Block]:
    """The page of a survey."""
    unit, things = result.unit, changed_things(result.max_new_tokens)
    asked = "; ".join(
        f"{role}: {_asked(result, role)}"
        + (f" of {result.data[role]}" if role in result.data else "")
        for role in ("data", "certification", "test")
        if result.counts[role]
    )
    intervals = f"Intervals are at {_level(result)}, by {unit.removesuffix('s')}."
    harmed = (
        f"{things[0].upper()}{things[1:]} changed by each single skip, on "
        f"{_asked(result, 'data')}, beside what costs less to measure. A changed answer may be as "
        f"good as before{unspoken(result.max_new_tokens, result.singles[0].share_at_limit)}."
    )
    return [
        Block(heading=f"{result.model}, {STACKS[result.stack]} of {result.n_layers} layers"),
        Block(points=(*result.sources, f"{asked}. {intervals}")),
        Block(
            head=("answers", "accuracy", "word error rate", "as the full model"),
            rows=tuple(_qualities(result)),
        ),
        Block(text=harmed),
        *_by_layer(result),
        *_quality_by_layer(result),
        _correlations(result),
        *_knockouts(result),
        *_certified(result),
    ]


def _level(result: Survey) -> str:
    return f"{result.singles[0].disagreement.level:.0%}"


def _qualities(result: Survey) -> list[tuple[str, ...]]:
    def cells(name: str, found: Quality) -> tuple[str, ...]:
        estimates = (found.accuracy, found.word_errors, found.same)
        return (name, *("-" if e is None else with_doubt(e) for e in estimates))

    rows = [cells(f"full model ({_count(result, 'test')})", result.full)]
    if result.other is not None:
        rows.append(cells("full model, shown the input of another question", result.other))
    if result.random is not None:
        rows.append(cells(f"random weights ({_count(result, 'random')})", result.random))
    if result.blind is not None:
        rows.append(("most frequent training answer", with_doubt(result.blind), "-", "-"))
    return rows


def _count(result: Survey, role: str) -> str:
    return _asked(result, role if result.counts[role] else "data")


def _asked(result: Survey, role: str) -> str:
    """Number of units, and of questions where there are more."""
    units, questions = result.counts[role], result.questions[role]
    more = f", {questions} questions" if questions != units else ""
    return f"{units} {result.unit if units != 1 else result.unit.removesuffix('s')}{more}"


def with_doubt(estimate: Estimate) -> str:
    """An estimate with its interval, and why it is not reliable if it is not."""
    return ranged(estimate) + ("" if estimate.reliable else f"; not reliable: {estimate.reason}")


def _place(plan: SkipPlan) -> int:
    """The row of a single skip: its layer, or the depth of an exit or entry."""
    if plan.mode == "early_exit":
        return int(plan.exit or 0)
    return int(plan.entry or 0) if plan.mode == "late_entry" else plan.touched_layers[0]


def harm(result: Survey, column: str) -> dict[int, Comparison]:
    """Layer or depth -> the single skip of a column."""
    mode, field = _COLUMNS[column]
    return {
        _place(single.plan): single
        for single in result.singles
        if single.plan.mode == mode and getattr(single.plan, field) not in (None, ())
    }


def _by_layer(result: Survey) -> list[Block]:
    harms, beside = _harms(result), cheap_scores(result)

    def cells(layer: int) -> list[str]:
        shares = [_share(found.get(layer)) for found in harms.values()]
        return [*shares, *(_cell(values, layer) for values in beside.values())]

    held = result.modality
    words = {
        "block": "the whole layer left out",
        "attention": "its attention left out",
        "MLP": "its MLP left out",
        "freeze": f"its {held} tokens frozen",
        "exit": f"no {held} tokens from this layer on",
        "entry": f"no {held} tokens before it",
    }
    notes = "; ".join(f"{name}: {words[name]}" for name in harms) + "."
    if result.no_slopes:
        notes += f" No slopes: {result.no_slopes}."
    if result.agreement:
        notes += (
            f" Next tokens: share of places in the texts of {result.data.get('data', 'the data')} "
            "at which the likeliest next token stays, with one block out; best "
            f"{_best_agreement(result)}."
        )
    return [_table(result, (*harms, *beside), cells), Block(text=notes)]


def _harms(result: Survey) -> dict[str, dict[int, Comparison]]:
    """Column -> its single skips, of the columns that the survey has."""
    return {name: found for name in _COLUMNS if (found := harm(result, name))}


def _table(result: Survey, head: tuple[str, ...], cells: Callable[[int], Sequence[str]]) -> Block:
    """A row for every layer, and for the depth behind the last; none where all cells are empty."""
    rows = ((str(layer), *cells(layer)) for layer in range(result.n_layers + 1))
    return Block(head=("layer", *head), rows=tuple(r for r in rows if set(r[1:]) != {"-"}))


def _share(single: Comparison | None) -> str:
    if single is None:
        return "-"
    low, high = single.disagreement.interval
    return f"{100 * single.disagreement.value:.3g}% [{100 * low:.0f}, {100 * high:.0f}]"


def _quality_by_layer(result: Survey) -> list[Block]:
    """What each single skip does to the answers that have labels: word errors, or accuracy."""
    named = "word error rate", "word_errors_full", "word_errors_skipped"
    if result.singles[0].word_errors_full is None:
        named = "accuracy", "accuracy_full", "accuracy_skipped"
    name, of_full, of_skipped = named
    harms, full = _harms(result), getattr(result.singles[0], of_full)
    if full is None:
        return []

    def cell(single: Comparison | None) -> str:
        quality = None if single is None else getattr(single, of_skipped)
        if quality is None:
            return "-"
        return ranged(quality, ".0%") + ("" if quality.reliable else "*")

    def cells(layer: int) -> list[str]:
        return [cell(found.get(layer)) for found in harms.values()]

    empty = ", that of empty answers 100%" if name == "word error rate" else ""
    text = f"The {name} of the same answers{empty}; that of the full model is {with_doubt(full)}"
    skipped = [getattr(single, of_skipped) for single in result.singles]
    doubtful = {q.reason for q in skipped if q is not None and not q.reliable}
    if doubtful:
        text += f". A star: not reliable ({min(doubtful)}{' and others' * (len(doubtful) > 1)})"
    return [Block(text=f"{text}."), _table(result, tuple(harms), cells)]


def _cell(values: Sequence[float], layer: int) -> str:
    """The value of a layer; a dash where it was not measured."""
    measured = layer < len(values) and np.isfinite(values[layer])
    return f"{values[layer]:.3g}" if measured else "-"


def cheap_scores(result: Survey) -> dict[str, Sequence[float]]:
    """Name -> values by layer of what one pass measures: distances, VAR, slopes, next tokens."""
    scores: dict[str, Sequence[float]] = {}
    own, random = result.profile, result.profile_random
    for group in own.groups:
        for name, measure in (("cosine distance", "cosine_distance"), ("VAR", "var")):
            if measure in own.measures[group]:
                scores[f"{name}, {group}"] = _values(own, group, measure)
                if measure == "cosine_distance" and measure in random.measures.get(group, {}):
                    scores[f"distance with random weights, {group}"] = _values(
                        random, group, measure
                    )
    for kind, values in result.slopes.items():
        scores[f"slope, {kind} (nats)"] = values
    if result.agreement:
        of_blocks = {
            _place(single.plan): agreement.value
            for single, agreement in zip(result.singles, result.agreement, strict=True)
            if single.plan.mode == "block"
        }
        scores["next tokens kept"] = [
            of_blocks.get(layer, float("nan")) for layer in range(result.n_layers)
        ]
    return scores


def _values(measured: Profile, group: str, measure: str) -> list[float]:
    return [float(value) for value in measured.values(group, measure)]


def _best_agreement(result: Survey) -> str:
    pairs = zip(result.singles, result.agreement, strict=True)
    blocks = [(single.plan, found) for single, found in pairs if single.plan.mode == "block"]
    if not blocks:
        return "not measured"
    plan, best = max(blocks, key=lambda pair: pair[1].value)
    return f"{ranged(best)} without layer {_place(plan)}"


def _correlations(result: Survey) -> Block:
    """Rank correlation of every cheap score, and of depth alone, with the harm of each column."""
    if result.n_layers < _FEWEST_TO_RANK:
        text = (
            f"No rank correlations: with {result.n_layers} layers even a perfect one says little; "
            f"it comes by chance once in {math.factorial(result.n_layers)} orders."
        )
        return Block(text=text)
    rows = []
    scores = {"depth alone": list(range(result.n_layers)), **cheap_scores(result)}
    columns = [name for name, (mode, _) in _COLUMNS.items() if MODES[mode].by == "layer"]
    columns = [name for name in columns if harm(result, name)]
    for name, values in scores.items():
        cells = [name]
        for column in columns:
            found = harm(result, column)
            layers = [layer for layer in sorted(found) if np.isfinite(values[layer])]
            harms = [found[layer].disagreement.value for layer in layers]
            rank = spearman([values[layer] for layer in layers], harms) if len(layers) > 2 else None
            cells.append("-" if rank is None or np.isnan(rank) else f"{rank:.2f}")
        rows.append(tuple(cells))
    if not columns or all(set(cells[1:]) == {"-"} for cells in rows):
        tried = max((len(harm(result, column)) for column in columns), default=0)
        if tried < 3:
            return Block(text=f"{tried} layers were tried alone, too few to rank.")
        return Block(text="All single skips are equally harmful: nothing can rank them.")
    head = ("Spearman's rank correlation with harm by layer", *columns)
    rows.append(
        ("what 95 % of random orders stay within", *(_by_chance(result, c) for c in columns))
    )
    return Block(head=head, rows=tuple(rows))


def _by_chance(result: Survey, column: str) -> str:
    """The 95 % quantile of |rho| of random orders with the harm of a column, ties as they are."""
    harms = [one.disagreement.value for one in harm(result, column).values()]
    if len(set(harms)) < 2:
        return "-"
    draw = np.random.default_rng(0)
    found = [abs(spearman(draw.permutation(len(harms)), harms)) for _ in range(_ORDERS)]
    return f"{np.quantile(found, 0.95):.2f}"


def _knockouts(result: Survey) -> list[Block]:
    """Where text reads the modality tokens: what changes if it cannot, band by band."""
    if not result.knockouts:
        return []
    rows = tuple((ranges(one.layers), _share(one.changed)) for one in result.knockouts)
    text = (
        f"Attention knockout, the causal check: text does not attend to {result.modality} tokens "
        "in a band of layers, and everything else runs as before."
    )
    return [Block(text=text), Block(head=("blind layers", "answers changed"), rows=rows)]


def _beside_controls(controls: Controlled) -> str:
    """The certified plan beside random plans of its size and the deepest layers."""
    own, unit = controls.plan, controls.plan.unit_word
    sentence = (
        f"Controls on {own.n_images} {unit}s: the plan changes {ranged(own.disagreement)} of the "
        "answers"
    )
    if controls.random:
        rates = [one.disagreement.value for one in controls.random]
        sentence += (
            f", {len(rates)} random plans of its size {min(rates):.1%} to {max(rates):.1%} (drawn "
            f"as they are, it would do so well with p = {controls.p_value:.3g})"
        )
    if controls.deepest is not None:
        sentence += f", the deepest layers {ranged(controls.deepest.disagreement)}"
    return f"{sentence}."


def _certified(result: Survey) -> list[Block]:
    found, goal = result.search, f"epsilon {result.epsilon:g}, delta {result.delta:g}"
    if found is None:
        return [Block(text="No certification questions were given, so nothing was certified.")]
    searched = f"Certified search at {goal}, among {result.candidates} plans:"
    if not found.path:
        return [
            Block(
                text=f"{searched} no plan. Each changes more than {result.epsilon:.0%} of the "
                "answers to the data already, so that none was tested."
            )
        ]
    if found.certificate is None:
        tested = zip(found.path, found.certificates, strict=False)
        return [
            Block(text=f"{searched} no plan is certified."),
            Block(
                points=tuple(
                    f"{step.plan.describe(result.modality)}: {failed.estimate:.1%} of answers "
                    f"changed; {what_it_takes(failed)}"
                    for step, failed in tested
                )
            ),
        ]
    sentences = [f"{found.plan.describe(result.modality)}. {found.certificate.sentence()}."]
    if result.tested is not None:
        where = "the test questions"
        if "test" not in result.data:
            where = "the questions that ordered the candidates, since none were given to test on"
        sentences.append(f"On {where}: {result.tested.sentence()}.")
        sentences.append(f"{result.tested.accuracy_sentence()}.")
        if rates := result.tested.word_error_sentence():
            sentences.append(f"{rates}.")
    if result.cost is not None:
        prefill, decode = result.cost.prefill, result.cost.decode
        of_a_token = "" if decode is None else f", of a token {ranged(decode.latency_ratio, '.2f')}"
        sentences.append(
            f"Cost, skipped/full: prefill FLOPs {prefill.flops_ratio:.2f}, latency of the prefill "
            f"{ranged(prefill.latency_ratio, '.2f')}{of_a_token}."
        )
    if result.controls is not None:
        sentences.append(_beside_controls(result.controls))
    return [Block(text=searched), Block(points=tuple(sentences))]
