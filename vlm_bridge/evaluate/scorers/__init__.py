"""Scores of an answer, each in [0, 1], by name; one file each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from vlm_bridge.errors import BridgeError, among, shown
from vlm_bridge.evaluate.scorers.anls import Anls
from vlm_bridge.evaluate.scorers.cider import Cider, CorpusCider, cider_of_file
from vlm_bridge.evaluate.scorers.exact import Exact
from vlm_bridge.evaluate.scorers.own import Function as Function
from vlm_bridge.evaluate.scorers.own import Own, named_function
from vlm_bridge.evaluate.scorers.protocol import Scorer as Scorer
from vlm_bridge.evaluate.scorers.relaxed import RelaxedAccuracy
from vlm_bridge.evaluate.scorers.rouge_l import RougeL
from vlm_bridge.evaluate.scorers.token_f1 import TokenF1
from vlm_bridge.evaluate.scorers.vqa import VqaAccuracy
from vlm_bridge.evaluate.scorers.word_accuracy import WordAccuracy

#: What compares answers unless another scorer is named: accuracy.
EXACT = Exact()
#: Scorers by name; `cider:FILE` and functions of the user come beside them.
SCORERS: Mapping[str, Scorer] = {
    scorer.name: scorer
    for scorer in (
        *(EXACT, VqaAccuracy(), Anls(), RelaxedAccuracy(), TokenF1(), RougeL(), WordAccuracy()),
        CorpusCider(),
    )
}
#: Scores of a whole corpus, which are no mean over answers.
_OF_CORPUS = ("bleu", "corpus-bleu", "sacrebleu", "spice", "corpus-cider")


def find_scorer(name: str | Function | Scorer) -> Scorer:
    """The scorer of a name; `cider:FILE`, `MODULE:FUNCTION` or a function are scorers, too.

    `cider:FILE` takes its document frequencies from the reference answers (`answer` or `answers`)
    of a JSONL file, as `read_jsonl` reads it, about other images than those that are scored. A
    function takes an item and an answer, and returns a number in [0, 1], or None without a label.

    Raises:
        BridgeError: an unknown name, a score that is no mean over answers, a file or module that
            cannot be read.
        MissingExtra: the package that the scorer needs is not installed.

    Example:
        >>> find_scorer("anls").claim
        '1 - normalised edit distance to the best reference, 0 from distance 0.5 on'
        >>> find_scorer("bleu")
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: bleu is a score of a whole corpus and no mean over answers,
        so that it has no interval or certificate by image; use rouge-l or cider:FILE
    """
    if isinstance(name, Scorer):
        return name
    if not isinstance(name, str):
        return Own(name)
    if name in SCORERS:
        SCORERS[name].check_installed()
        return SCORERS[name]
    if name.lower() in _OF_CORPUS:
        raise BridgeError(
            f"{name} is a score of a whole corpus and no mean over answers, so that it has no "
            "interval or certificate by image; use rouge-l or cider:FILE"
        )
    head, colon, rest = name.partition(":")
    if head and rest:
        return cider_of_file(rest) if head == "cider" else named_function(name)
    if colon:
        raise BridgeError(f"a scorer is cider:FILE or MODULE:FUNCTION, got {shown(name)}")
    raise BridgeError(
        f"unknown scorer '{name:.60}'; {among(name, SCORERS)}, cider:FILE, MODULE:FUNCTION"
    )


def find_scorers(names: Iterable[str | Function | Scorer]) -> list[Scorer]:
    """The scorer of each name, as `find_scorer` finds it; results are kept by its name.

    Raises:
        BridgeError: as `find_scorer`; two scorers of one name.

    Example:
        >>> [scorer.name for scorer in find_scorers(["exact", "vqa"])]
        ['exact', 'vqa']
    """
    found = [find_scorer(name) for name in names]
    for name, n in Counter(scorer.name for scorer in found).items():
        if n > 1:
            raise BridgeError(
                f"{n} scorers have the name {name}, and scores are kept by name; give each scorer "
                "once, and functions a `def` of a name of their own"
            )
    return found


def scorers() -> list[dict[str, str]]:
    """Every scorer: name, range, whether its drop has a certificate, claim, source.

    Example:
        >>> [row["name"] for row in scorers() if row["certificate"] == "no"]
        ['cider']
    """
    every: list[tuple[str, type[Scorer] | Scorer]] = [
        *SCORERS.items(),
        ("cider:FILE", Cider),
        ("MODULE:FUNCTION", Own),
    ]
    return [
        {
            "name": name,
            "range": "0 or 1" if scorer.binary else "[0, 1]",
            "certificate": "yes" if scorer.per_item else "no",
            "claim": scorer.claim,
            "source": scorer.source,
        }
        for name, scorer in every
    ]
