"""The other forms of `skipit certify`: per kind of question, several risks, growing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from theory.certificates.certificate import counted
from vlm_bridge.cli.output import note, resumable, save, say
from vlm_bridge.cli.replacing import held_in
from vlm_bridge.data import Item, unit_word
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.growing import GrowingCertificate, certify_anytime
from vlm_bridge.evaluate.joint import certify_groups, certify_risks
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import check_writable, read_record


def one_scorer(given: Sequence[str] | None) -> str:
    """The scorer of `--scorer`; a certificate bounds one score.

    Example:
        >>> one_scorer(None), one_scorer(["anls"])
        ('exact', 'anls')
    """
    names = given or ["exact"]
    if len(names) > 1:
        raise BridgeError(
            f"--scorer is given {len(names)} times ({', '.join(names)}), and a certificate bounds "
            "one score; give one, and run the command once for each, with another --out"
        )
    return names[0]


def check_forms(
    per: str | None, risks: str | None, anytime: bool, method: str, scorer: str
) -> None:
    """Raise a `BridgeError` for forms of a certificate that do not go together."""
    given = [
        name for name, on in (("--per", per), ("--risks", risks), ("--anytime", anytime)) if on
    ]
    if len(given) > 1:
        raise BridgeError(f"{' and '.join(given)} do not go together; give one of them")
    if given and method != "auto":
        raise BridgeError(f"{given[0]} chooses its method itself; leave --method out")
    if given and scorer != "exact":
        raise BridgeError(f"{given[0]} certifies no score but accuracy; leave --scorer out")


def read_limits(words: str) -> dict[str, float]:
    """Limits in words, such as `disagreement=0.02,length_change=0.05`.

    Example:
        >>> read_limits("disagreement=0.02,length_change=0.05")
        {'disagreement': 0.02, 'length_change': 0.05}
    """
    limits: dict[str, float] = {}
    for part in words.split(","):
        name, equals, number = part.strip().partition("=")
        try:
            value = float(number)
        except ValueError:
            equals = ""
        if not equals or name in limits:
            raise BridgeError(
                f"--risks takes each risk once, as in disagreement=0.02,accuracy_drop=0.02, got "
                f"'{words:.60}'"
            )
        limits[name] = value
    return limits


def per_group(
    vlm: VLM, items: Sequence[Item], plan: SkipPlan, per: str, out: Path, wanted: Mapping[str, Any]
) -> tuple[Any, bool]:
    """Certify every group; returns the stored result and whether all hold."""
    with resumable(out) as checkpoint:
        made = certify_groups(vlm, items, plan, per, checkpoint=checkpoint, **wanted)
        result = save(out, made.to_json())
    for name, certificate in made.certificates.items():
        say(f"{name}: {certificate.sentence()}")
    say(made.sentence())
    return result, made.holds


def of_risks(
    vlm: VLM,
    items: Sequence[Item],
    plan: SkipPlan,
    risks: str,
    out: Path,
    wanted: Mapping[str, Any],
) -> tuple[Any, bool]:
    """Certify several risks; returns the stored result and whether all hold."""
    options = {name: value for name, value in wanted.items() if name != "epsilon"}
    limits = read_limits(risks)
    with resumable(out) as checkpoint:
        made = certify_risks(vlm, items, plan, limits, checkpoint=checkpoint, **options)
        result = save(out, made.to_json())
    say(made.sentence())
    return result, made.holds


def growing(
    vlm: VLM, items: Sequence[Item], plan: SkipPlan, out: Path, wanted: Mapping[str, Any]
) -> tuple[Any, bool]:
    """Add images until the certificate holds; returns the stored result and whether it does."""
    check_writable(out)
    earlier = None
    if out.is_file() and held_in(out) != "nothing":
        try:
            earlier = read_record(out, GrowingCertificate, "growing certificate")
        except BridgeError as error:
            raise BridgeError(f"{error}; name another --out, or delete it") from None
        note(f"continues {out}: {earlier.certificate.sentence()}")

    def keep(made: GrowingCertificate) -> None:
        at = made.certificate
        note(f"{counted(at.n_images, at.unit_word)}: disagreement <= {at.bound:.4f}")
        save(out, made.to_json())

    made = certify_anytime(vlm, items, plan, earlier=earlier, keep=keep, **wanted)
    result = save(out, made.to_json())
    say(made.certificate.sentence())
    for line in _left_out(items, earlier, made, out):
        say(line)
    if not made.certificate.holds:
        say("the same command with more images (--limit, --data) continues it")
    return result, made.certificate.holds


def _left_out(
    items: Sequence[Item],
    earlier: GrowingCertificate | None,
    made: GrowingCertificate,
    out: Path,
) -> Iterator[str]:
    """Which of the data the certificate did not look at, because it held before."""
    seen, before = set(made.clusters), set() if earlier is None else set(earlier.clusters)
    given = {item.cluster for item in items}
    if not given - seen:
        return
    left, of = len(given - seen), counted(len(given), unit_word(items, 1))
    if given & seen - before:
        yield f"{left} of {of} of --data were not looked at: the certificate held without"
        return
    at = made.certificate
    about = counted(at.n_images, at.unit_word)
    yield (
        f"no new answer was looked at: the certificate in {out} holds already, and is about the "
        f"{about} of earlier commands; {left} of {of} of --data are not among them; name another "
        "--out to certify on --data"
    )
