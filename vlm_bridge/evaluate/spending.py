"""What a ledger grants to a run, and what is checked before the run spends its delta."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlm_bridge.data import Item, image_ids, items_hash, open_image, overlap, unit_word
from vlm_bridge.data.audio import read_audio
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.evaluate.answers import answer_batch, check_max_new_tokens
from vlm_bridge.evaluate.reach import reach
from vlm_bridge.model.prompts import batch_places, check_takes, collate
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AnyPlan
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.ledger import Ledger, NothingLeft, Spending, run_hash
from vlm_bridge.skip import skipping


def spend_on(
    ledger: Ledger | str | Path,
    what: str,
    vlm: VLM,
    items: Sequence[Item],
    *,
    delta: float,
    **run: Any,
) -> Spending:
    """Spend delta on the images of `items`; `run` is everything else that decides the result."""
    return Ledger.of(ledger).spend(image_ids(items), delta, **_run(what, vlm, items, delta, run))


def granted_to(
    ledger: Ledger | str | Path,
    what: str,
    vlm: VLM,
    items: Sequence[Item],
    *,
    delta: float,
    **run: Any,
) -> Spending:
    """What `spend_on` with these arguments would grant; nothing is spent.

    Raises:
        BridgeError: as `spend_on`.
    """
    return Ledger.of(ledger).granted(image_ids(items), delta, **_run(what, vlm, items, delta, run))


def _run(
    what: str, vlm: VLM, items: Sequence[Item], delta: float, run: Mapping[str, Any]
) -> dict[str, str]:
    """A run as a ledger names it."""
    if not 0 < delta < 1:
        raise BridgeError(f"delta must lie in (0, 1), got {shown(delta)}")
    who = {"what": what, "model": vlm.name, "fingerprint": vlm.fingerprint}
    return {**who, "key": run_hash(**who, data=items_hash(items), delta=delta, **run)}


def reach_of_search(
    ledger: Ledger | str | Path | None,
    vlm: VLM,
    items: Sequence[Item],
    *,
    delta: float,
    **wanted: Any,
) -> tuple[str, bool]:
    """What a search can reach at the delta that it can get, before its path is known.

    Returns:
        A sentence, and whether all is as `wanted`: `delta` is left, and epsilon is within reach.
        The same search again gets what it got before, which only its path can tell.
    """
    left = delta
    if ledger is not None:
        try:
            left = granted_to(ledger, "search", vlm, items, delta=delta).delta
        except NothingLeft as error:
            return f"{error}; only the same search again costs nothing", False
    found = reach(items, delta=left, **wanted)
    on = f"on these {unit_word(items)}"
    less = f"; by the ledger a new search {on} gets delta {left:g}, not {delta:g}"
    return found.sentence() + ("" if left == delta else less), found.possible and left == delta


def check_unspent(plan: AnyPlan, items: Iterable[Item]) -> None:
    """Raise a `BridgeError` if `items` share an image or a cluster with those spent on `plan`."""
    if not plan.provenance.spent:
        return
    items = list(items)
    for verb in ("tuned", "certified", "profiled"):
        if shared := overlap(items, getattr(plan.provenance, verb)):
            uses = {"profiled": "ranked the layers of", "tuned": "chose", "certified": "certified"}
            if plan.is_empty:  # a search that certified nothing
                uses["certified"] = "were searched in vain for"
            raise BridgeError(
                f"{len(shared)} of these {unit_word(items)} {uses[verb]} the plan (as cluster "
                f"{shown(shared[0])}); certify it on others"
            )


def check_answerable(
    vlm: VLM, items: Sequence[Item], plan: SkipPlan, *, batch_size: int, max_new_tokens: int
) -> None:
    """Raise a `BridgeError` for an image or recording that cannot be read, or a broken model.

    A run that fails so has seen no answers, and must not spend its delta. Both models generate one
    token for the first batch, and nobody looks at it.
    """
    check_max_new_tokens(max_new_tokens)
    check_takes(vlm, items)
    for image in {image for item in items for image in item.images}:
        open_image(image)
    for audio in {item.audio for item in items if item.audio is not None}:
        read_audio(audio)
    batch = collate(vlm, items, batch_places(items, batch_size)[0])
    answer_batch(vlm, batch, max_new_tokens=1)
    if not plan.is_empty:
        with skipping(vlm, plan):
            answer_batch(vlm, batch, max_new_tokens=1)
