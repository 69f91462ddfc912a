"""`write_report`: the results of a run as one self-contained HTML page and its figures."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from estimators import Profile
from theory import Certificate
from vlm_bridge.cost import Cost
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.sweep import SWEPT
from vlm_bridge.experiments.rule_benchmark import RuleBenchmark
from vlm_bridge.experiments.rule_benchmark.page import png_uri, rule_sections, unit_names
from vlm_bridge.figures import layers, numbers, prediction
from vlm_bridge.figures.axes import by_position
from vlm_bridge.plan.modes import MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import RULES
from vlm_bridge.runtime.files import write_bytes
from vlm_bridge.selection import CertifiedPlan

NAME = "report.html"
_ACCURACIES = {
    "accuracy_full": "Full model",
    "accuracy_skipped": "Skipped model (the plan)",
    "accuracy_no_vision": "Full model without any image tokens",
    "accuracy_blind": "Blind baseline: most frequent training answer to the same question",
}
#: Functions of `numbers` that the templates use as filters.
_FORMATS = ("share", "exact", "number", "quantity", "ratio", "rounded_up", "raw")
_REQUIRED = (
    *("model", "n_layers", "command", "seed", "created", "versions", "data", *_ACCURACIES),
    *("plan", "plan_sentence", "epsilon", "epsilon_note", "cost", "certificate"),
    *(
        "certificate_drop",
        "search",
        "comparison",
        "comparison_test",
        "peers",
        "profile",
        "profile_null",
    ),
    *("scores", "sweep", "summary"),
)


@dataclass(frozen=True)
class _Figure:
    """A figure of the page; `uri` is None where it could not be drawn, and `notes` say why."""

    title: str
    caption: str
    uri: str | None
    notes: tuple[str, ...]


def write_report(
    results: Mapping[str, Any], folder: Path, *, benchmark: RuleBenchmark | None = None
) -> Path:
    """Write the figures and `report.html` of a run; the page holds everything it shows.

    Args:
        results: what `skipit demo` writes as results.json. Accuracies, `certificate_drop`,
            `search`, `comparison_test` and `profile_null` may be None; `sweep` and `peers` may
            be empty; the page says what is missing.
        folder: made if it does not exist. The page replaces an older one as a whole.
        benchmark: of rules, for a section of its own; None leaves it out.

    Returns:
        Path of the page.

    Raises:
        BridgeError: a key of the results is missing or does not hold what it should, or a file
            cannot be written.

    Example:
        >>> results = json.loads(Path("results.json").read_text())  # doctest: +SKIP
        >>> write_report(results, Path("out"))  # doctest: +SKIP
        PosixPath('out/report.html')
    """
    missing = [name for name in _REQUIRED if name not in results]
    if missing:
        raise BridgeError(f"the results lack {', '.join(missing)}; write them again")
    try:
        read = _read(results)
    except (ValueError, TypeError, KeyError) as error:
        raise BridgeError(f"these results cannot be reported: {error}") from None
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    template = _environment().get_template(f"{NAME}.j2")
    for old in folder.glob("scores-*.png"):  # of another benchmark
        old.unlink()
    page = template.render(read, figures=_figures(read, folder), **_rules(benchmark, folder))
    return write_bytes(folder / NAME, page.encode("utf-8"))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(
            [Path(__file__).parent, Path(__file__).parents[1] / "rule_benchmark"]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        **{name: getattr(numbers, name) for name in _FORMATS},
        "units": unit_names,
    }
    return environment


def _read(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results with their typed objects in place of JSON, and what the page asks of them."""

    def comparison(data: Mapping[str, Any] | None) -> Comparison | None:
        return None if data is None else Comparison.from_json(data)

    def profile(data: Mapping[str, Any] | None) -> Profile | None:
        return None if data is None else Profile.from_json(data)

    certificates = [results["certificate"], results["certificate_drop"]]
    main = Comparison.from_json(results["comparison"])
    read = dict(results) | {
        "plan": SkipPlan.from_json(dict(results["plan"])),
        "certificates": [Certificate.from_json(one) for one in certificates if one is not None],
        "comparison": main,
        "comparison_test": comparison(results["comparison_test"]),
        "search": _steps(results["search"]),
        "peers": [dict(p, comparison=comparison(p["comparison"])) for p in results["peers"]],
        "profile": Profile.from_json(results["profile"]),
        "profile_null": profile(results["profile_null"]),
        "sweep": [Comparison.from_json(one) for one in results["sweep"]],
        "cost": Cost.from_json(results["cost"]),
        "accuracies": [(label, _accuracy(results[key])) for key, label in _ACCURACIES.items()],
        "level": main.disagreement.level,
    }
    full, blind = _accuracy(results["accuracy_full"]), _accuracy(results["accuracy_blind"])
    read["beats_blind"] = full is None or blind is None or full["low"] > blind["high"]
    return read


def _rules(benchmark: RuleBenchmark | None, folder: Path) -> dict[str, Any]:
    """What the page asks of a rule benchmark."""
    if benchmark is None:
        return {"benchmark": None}
    return {"benchmark": benchmark, "sections": rule_sections(benchmark, folder)}


def _steps(data: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The steps of a search, each with its certificate or, where it was not tested, None."""
    if data is None:
        return None
    found = CertifiedPlan.from_json(data)
    return {"steps": list(itertools.zip_longest(found.path, found.certificates))}


def _accuracy(data: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if data is None or data["value"] is None:
        return None
    low, high = data["interval"]
    counts = {"n_images": data["n_images"], "n_questions": data["n_questions"]}
    return {"value": data["value"], "low": low, "high": high, **counts}


def _figures(read: Mapping[str, Any], folder: Path) -> list[_Figure]:
    sweep: Sequence[Comparison] = read["sweep"]
    plan: SkipPlan = read["plan"]
    have = {mode for mode in SWEPT if by_position(sweep, mode)}
    unlabelled = any(one.drop is None for one in sweep)
    seen = f"{sweep[0].n_images} images, {sweep[0].decision}" if sweep else ""

    def notes(*modes: str) -> tuple[str, ...]:
        said = [f"Not measured in this run: {MODES[m].title}." for m in modes if m not in have]
        if unlabelled and have & set(modes):
            said.append("The questions have no labels, so accuracy is not shown.")
        return tuple(said)

    baselines = {
        name: one["value"]
        for name in ("blind", "no_vision")
        if (one := _accuracy(read[f"accuracy_{name}"]))
    }
    modes = {p["rule"]: p["plan"]["mode"] for p in read["peers"]}
    modes |= {rule: RULES[rule].modes[0] for rule in read["scores"] if rule in RULES}
    unmatched = [
        rule for rule in read["scores"] if modes.get(rule) not in have & {"block", "freeze"}
    ]
    no_null = ("No profile of a copy with random weights was made.",)
    drawn: list[tuple[str, str, str, Path | None, tuple[str, ...]]] = [
        (
            "profile",
            "What each layer changes",
            "Look for layers where the coloured line lies well below the dashed one, which is "
            "the same architecture with random weights: only there is small change something "
            "that training brought about.",
            layers.plot_profile(
                folder / "profile.png", read["profile"], read["profile_null"], plan
            ),
            () if read["profile_null"] else no_null,
        ),
        (
            "layers",
            "One layer at a time",
            "Look for layers whose points lie low in both rows; one whose interval crosses the "
            f"dashed epsilon line is undecided by this sample ({seen}), and effects of several "
            "layers need not add up.",
            layers.plot_layers(folder / "layers.png", sweep, plan, read["epsilon"]),
            notes("block", "freeze"),
        ),
        (
            "depth",
            "How deep the image is needed",
            "Look for the earliest exit, and the latest entry, that stay inside the full "
            f"model's band ({seen}); near the baselines the image is no longer used. The blind "
            "and no-vision baselines come from whole answers on the test images, while the sweep "
            "looks at first answer tokens, so compare them only roughly.",
            layers.plot_depth(
                folder / "depth.png",
                sweep,
                blind=baselines.get("blind"),
                no_vision=baselines.get("no_vision"),
            ),
            notes("early_exit", "late_entry"),
        ),
        (
            "prediction",
            "What a rule foresees",
            "Look for points that rise from lower left to upper right: then the rule, which "
            "reads no labels and no answers, ranks layers by what skipping them does; layers "
            "are not independent, so no p-value is given for ρ.",
            prediction.plot_prediction(
                folder / "prediction.png", read["scores"], modes, sweep, plan
            ),
            tuple(f"No sweep to hold the rule {rule} against." for rule in unmatched),
        ),
    ]
    for name, _, _, path, _ in drawn:
        if path is None:  # one of an earlier run would be taken for one of this run
            (folder / f"{name}.png").unlink(missing_ok=True)
    return [
        _Figure(title, caption, png_uri(path) if path else None, why)
        for _, title, caption, path, why in drawn
    ]
