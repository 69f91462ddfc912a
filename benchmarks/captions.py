"""Answers of captioning length: what skipping changes, by the length of the full model's answer.

    python -m benchmarks.captions --json

The model is `reference-captions`, the questions are all those about the first images of
`descriptions:certification`: the whole picture, one sentence, a quarter of it. Of every plan, named
before the run, the rows say how many answers change and how many words of them, by the length of
the full model's answer: `changed` is the mean over images of the share of answers whose text
changes, `words` the wrong words of the skipped answers over the words of the full ones. `by_plan`
has the certificates of the same answers, `exact` (the whole text stays the same) and of the drop of
other scores, at equal epsilon, each as if it were alone; what changes in the first 1, 4, 16 tokens;
and tokens per second, full and skipped in one run, so that only their ratio is to be compared.
`quality` scores the full model on `descriptions:test` beside the likeliest training answer to the
question, which sees nothing. The image is the unit of every interval, the batch of those of speed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from benchmarks import _help
from benchmarks._table import report
from estimators import clustered_mean, clustered_ratio
from vlm_bridge.data import Item, descriptions, first_units, items_hash, shows_held_out
from vlm_bridge.evaluate.answers import answer
from vlm_bridge.evaluate.baselines import blind_answers
from vlm_bridge.evaluate.compare_answers import compare_answers
from vlm_bridge.evaluate.from_outcomes import certificate_of
from vlm_bridge.evaluate.paired import PairedAnswers, paired_answers
from vlm_bridge.evaluate.scorers import find_scorers
from vlm_bridge.evaluate.word_errors import wrong_words
from vlm_bridge.model.vlm import load
from vlm_bridge.plan.text import read_plan

MODEL = "reference-captions"
PLANS = (
    "freeze layers=6-7",
    "freeze layers=2-7",
    "block layers=6",
    "block layers=1",
    "early_exit exit=6",
    "early_exit exit=2",
)
#: Largest number of tokens of an answer, with its end, of each class of lengths.
LENGTHS = (8, 24, 64)
SCORERS = ("token-f1", "rouge-l", "word-accuracy")
DELTA = 0.05


def by_length(said: PairedAnswers) -> Iterator[dict[str, Any]]:
    """Changed answers and words, by the number of tokens of the full model's answer."""
    least = 1
    for most in LENGTHS:
        places = [i for i, n in enumerate(said.full.n_tokens) if least <= n <= most]
        units = [said.items[i].cluster for i in places]
        row: dict[str, Any] = {"tokens": f"{least}-{most}", "answers": len(places)}
        if len(set(units)) > 1:
            pairs = [(said.full.texts[i].split(), said.skipped.texts[i].split()) for i in places]
            changed = [float(full != skipped) for full, skipped in pairs]
            wrong = [float(wrong_words(skipped, full)) for full, skipped in pairs]
            lengths = [len(full) for full, _ in pairs]
            row["images"] = len(set(units))
            row["changed"] = clustered_mean(changed, units, bounds=(0.0, 1.0), unit="1").to_json()
            row["words"] = clustered_ratio(wrong, lengths, units).to_json()
        yield row
        least = most + 1


def certificates(said: PairedAnswers, epsilon: float) -> dict[str, Any]:
    """The certificate of whole answers and of the drop of every score, at the same epsilon."""
    levels: Any = {"epsilon": epsilon, "delta": DELTA}
    found = {"exact": certificate_of(said.plan, said.outcomes(), **levels)}
    for scorer in find_scorers(SCORERS):
        fitted = scorer.of(said.items)
        found[scorer.name] = certificate_of(
            said.plan,
            said.outcomes(fitted),
            quantity="accuracy_drop",
            method="betting",
            scorer=fitted,
            **levels,
        )
    return {
        name: {"bound": each.bound, "holds": each.holds, "method": each.method}
        for name, each in found.items()
    }


def quality(answers: Sequence[str], items: Sequence[Item]) -> dict[str, Any]:
    """The mean of every score of some answers, with its interval by image."""
    units = [item.cluster for item in items]
    means: dict[str, Any] = {}
    for scorer in find_scorers(("exact", *SCORERS, "cider")):
        score = scorer.of(items).score
        values = [
            float(score(text, item) or 0.0) for text, item in zip(answers, items, strict=True)
        ]
        means[scorer.name] = clustered_mean(values, units, bounds=(0.0, 1.0), unit="1").to_json()
    return means


def of_test(vlm: Any, images: int) -> dict[str, Any]:
    """Scores on test images, with every pair of colour and shape, and those of a blind guess."""
    items = first_units(descriptions("test"), images)
    said, blind = answer(vlm, items), blind_answers(descriptions("train"), items)
    found: dict[str, Any] = {"data_hash": items_hash(items), "images": images, "by_question": {}}
    groups = {
        "all": lambda item: True,
        "the picture": lambda item: item.question.endswith("picture."),
        "one sentence": lambda item: item.question.endswith("sentence."),
        "a quarter": lambda item: not item.question.endswith(("picture.", "sentence.")),
        "pairs that training shows": lambda item: not shows_held_out(item),
        "a pair that it does not": shows_held_out,
    }
    for name, belongs in groups.items():
        places = [i for i, item in enumerate(items) if belongs(item)]
        own = [items[i] for i in places]
        found["by_question"][name] = {
            "answers": len(own),
            "model": quality([said[i] for i in places], own),
            "blind": quality([blind[i] for i in places], own),
        }
    return found


def main() -> None:
    """Compare every plan with the full model."""
    parser = _help.parser("captions", __doc__ or "")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("--plans", nargs="+", default=list(PLANS), help="plans in words")
    parser.add_argument("--images", type=int, default=300, help="for certification (300)")
    parser.add_argument("--test", type=int, default=300, help="images for quality (300)")
    parser.add_argument("--epsilon", type=float, default=0.05, help="of every certificate (.05)")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    vlm = load(MODEL)
    items = first_units(descriptions("certification"), options.images)
    rows, plans = [], {}
    for words in options.plans:
        plan = read_plan(words)(vlm.layout.depth)
        said = paired_answers(vlm, items, plan, max_new_tokens=LENGTHS[-1])
        rows += [{"plan": words, **row} for row in by_length(said)]
        compared = compare_answers(said, ["exact", *SCORERS])
        plans[words] = {
            "certificates": certificates(said, options.epsilon),
            "compared": compared.to_json(),
        }
    report(
        "captions: what skipping changes, by the length of the full answer",
        rows,
        as_json=options.json,
        model=MODEL,
        fingerprint=vlm.fingerprint,
        data_hash=items_hash(items),
        images=options.images,
        epsilon=options.epsilon,
        delta=DELTA,
        by_plan=plans,
        quality=of_test(vlm, options.test),
    )


if __name__ == "__main__":
    main()
