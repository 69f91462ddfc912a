"""`Evidence`: the measurements a rule may read, computed on demand, cached, and charged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np

from vlm_bridge.data.disjoint import image_ids
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.modes import KEEP, MODES, SLOPE_GROUPS, lacking
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER, STACKS
from vlm_bridge.plan.units import units
from vlm_bridge.rules.account import Account
from vlm_bridge.rules.measure import Floats

if TYPE_CHECKING:
    from estimators import Profile
    from theory.conditions import Bound
    from vlm_bridge.data import Item
    from vlm_bridge.model.vlm import VLM
    from vlm_bridge.rules.measure.candidates import CandidateRun
    from vlm_bridge.rules.measure.information import CodedStates, StateAtoms, StateConditions
    from vlm_bridge.rules.measure.observed_updates import ObservedUpdates
    from vlm_bridge.rules.measure.sensitivity import MarginSensitivity
    from vlm_bridge.rules.measure.states import CapturedStates
    from vlm_bridge.rules.measure.sublayers import SublayerGeometry

#: Token groups of a profile whose states hold features of something other than text.
_MODALITIES = ("image", "video", "audio")
_FULL_RUN = "full model for candidates"


class Evidence(Account):
    """Measurements of one model on one set of questions, shared by all rules.

    A candidate that starts at layer l of L costs (L - l) / L forward passes. Modules that need
    torch are imported by the measurements that use them.

    Args:
        vlm: the model; None if a profile suffices.
        items: the questions; rules read them without answers.
        profile: of the same stack of the same model; measured on demand by default.
        batch_size: questions in a batch.
        stack: whose layers are ranked; one of `vlm.layout.stacks`.

    Raises:
        BridgeError: neither model nor profile, no such stack, or a profile of another model or
            stack.

    Example:
        >>> evidence = Evidence(vlm, items)  # doctest: +SKIP
        >>> score_units(find_rule("shortgpt"), evidence)  # doctest: +SKIP
        array([0.74, 0.21, ...])
        >>> evidence.spent["shortgpt"]  # doctest: +SKIP
        {'profile': 1.0}
    """

    def __init__(
        self,
        vlm: VLM | None = None,
        items: Iterable[Item] = (),
        profile: Profile | None = None,
        *,
        batch_size: int = 16,
        stack: str = DECODER,
    ) -> None:
        if vlm is None and profile is None:
            raise BridgeError("evidence needs a model or a profile, got neither")
        if vlm is not None and profile is not None:
            check_profile(vlm, profile, stack)
        super().__init__()
        self.stack = stack
        self.model: str = vlm.name if vlm is not None else profile.model  # type: ignore[union-attr]
        self.n_layers: int = profile.n_layers if vlm is None else vlm.layout.depth(stack)  # type: ignore[union-attr]
        self._vlm, self._measured_with = vlm, ""
        self._labelled = tuple(items)
        self._profile = profile
        self.items = tuple(replace(item, answer=None) for item in self._labelled)
        self.batch_size = batch_size

    def check_mode(self, mode: str) -> None:
        """Raise a `BridgeError` if the mode skips modality tokens, and no layer here has any."""
        if self.stack != DECODER and not MODES[mode].every_token:
            usable = ", ".join(name for name, record in MODES.items() if record.every_token)
            raise BridgeError(
                f"mode {mode} is one of the decoder; the {STACKS[self.stack]} has {usable}"
            )
        if reason := lacking(mode, self.modality):
            raise BridgeError(f"{self.model} has no use for mode {mode}: {reason}")

    @property
    def modality(self) -> str:
        """What the decoder's modality tokens hold, as "vision"; empty if it has none.

        Empty for an encoder too: it holds nothing else, so that no mode sets them apart.
        """
        if self.stack != DECODER:
            return ""
        return " ".join(self.modality_groups) if self._vlm is None else self._vlm.layout.modality

    @property
    def modality_groups(self) -> tuple[str, ...]:
        """The groups of modality tokens in the profile; a text-only model has none."""
        rows = self.profile.n_rows
        return tuple(group for group in _MODALITIES if rows.get(group))

    @property
    def vlm(self) -> VLM:
        """The model; evidence with a profile only is refused."""
        if self._vlm is None or not self.items:
            raise BridgeError(
                f"{self._rule or 'this'} has to run the model, and the evidence is a profile "
                "without model and questions"
            )
        self._check_unchanged(self._vlm)
        return self._vlm

    def _check_unchanged(self, vlm: VLM) -> None:
        """Refuse a model that was changed between two measurements."""
        now = vlm.fingerprint
        if self._measured_with not in ("", now):
            raise BridgeError(
                f"the weights, dtype or attention of {vlm.name} changed after its first "
                "measurement; make new evidence"
            )
        self._measured_with = now

    @property
    def clusters(self) -> list[str]:
        """The independent unit of every question: its image, recording or text."""
        return [item.cluster for item in self.items]

    def provenance(self, rule: str, requires: str) -> Provenance:
        """What the plans of a rule come from: the model, and all images that the rule may read."""
        profile, images, hashes = self._profile, set[str](), {}
        fingerprint = "" if profile is None else profile.fingerprint
        if self._vlm is not None:
            self._check_unchanged(self._vlm)
            fingerprint = self._measured_with
        if requires != "nothing":
            images |= set(image_ids(self.items))
            if profile is not None:
                images |= set(profile.images)
                hashes = {"profile_hash": profile.data_hash}
        return Provenance(self.model, fingerprint, rule, tuple(images), settings=hashes)

    def part(self, images: Iterable[str]) -> Evidence:
        """The evidence restricted to the questions about `images`, with an account of its own."""
        chosen = set(images)
        items = [item for item in self._labelled if item.cluster in chosen]
        if not items:
            raise BridgeError(f"no question is about any of {len(chosen)} images")
        return Evidence(self.vlm, items, batch_size=self.batch_size, stack=self.stack)

    def units(self, mode: str, *, keep: float = KEEP) -> list[SkipPlan]:
        """The single units of a mode in this stack, in the order in which a rule scores them."""
        return units(mode, self.n_layers, keep=keep, stack=self.stack)

    def _run(self, name: str, function: str) -> Any:
        """`module:function` of `rules.measure`, run once under `name` on all questions."""
        run = _measure(function)
        return self.measured(name, lambda: run(self.vlm, self.items, batch_size=self.batch_size))

    def _derive(self, name: str, function: str, *measured: Any) -> Any:
        """`module:function` of `rules.measure`, run once under `name` on other measurements."""
        return self.measured(name, lambda: _measure(function)(*measured), forward_cost=0.0)

    def image_mean(self, values: Floats) -> Floats:
        """Mean over images of the mean over an image's questions: (n_items, ...) -> (...)."""
        mean: Floats = resolve_name("estimators.clustered:image_mean")(values, self.clusters)
        return mean

    @property
    def profile(self) -> Profile:
        """The profile of one full pass."""

        def make() -> Profile:
            if self._profile is None:
                run = resolve_name("vlm_bridge.observe.profile:profile")
                self._profile = run(
                    self.vlm, self.items, batch_size=self.batch_size, stack=self.stack
                )
            return self._profile

        return self.measured("profile", make)

    def last_token_states(self) -> Floats:
        """(L + 1, n_items, width): state l is the input of layer l, state L the final output."""
        states: Floats = self._run("last-token states", "states:last_token_states")
        return states

    def error_ratios(self) -> Floats:
        """(n_items, L) growth of a small relative error in every layer; two passes."""
        run = _measure("error_ratios:error_ratios")
        ratios: Floats = self.measured(
            "growth of errors",
            lambda: run(self.vlm, self.items, batch_size=self.batch_size),
            forward_cost=2.0,
        )
        return ratios

    def interchange_kl(self) -> Floats:
        """(L - 1,) KL of the model with two adjacent layers swapped, nats, by pair."""
        return self._beside_full("layers interchanged", "interchange:interchange")

    def vision_swap_kl(self) -> Floats:
        """(L - 1,) KL with the vision states at a depth of another image, nats, by exit depth."""
        return self._beside_full("vision states swapped", "vision_swap:vision_swap")

    def _beside_full(self, name: str, function: str) -> Floats:
        """`module:function_kl` of `rules.measure` beside the full run, charged `function_cost`."""
        self._check_allowed("candidate runs", name)
        run, cost = _measure(f"{function}_kl"), _measure(f"{function}_cost")
        self.measured(_FULL_RUN, lambda: None, requires="candidate runs")
        divergences: Floats = self.measured(
            name,
            lambda: run(self.vlm, self.items, batch_size=self.batch_size),
            forward_cost=float(cost(self.n_layers)),
            requires="candidate runs",
        )
        return divergences

    def sublayer_geometry(self) -> SublayerGeometry:
        """Change of direction and length of the states by every attention and MLP."""
        run, size = _measure("sublayers:sublayer_geometry"), self.batch_size
        geometry: SublayerGeometry = self.measured(
            "geometry of sublayers",
            lambda: run(self.vlm, self.items, batch_size=size, stack=self.stack),
        )
        return geometry

    def observed_updates(self) -> ObservedUpdates:
        """What later attention of text reads of every operator's update of modality tokens."""
        function = "observed_updates:observed_updates"
        observed: ObservedUpdates = self._run("updates that text observes", function)
        return observed

    def attention_ranks(self) -> Floats:
        """(n_items, L) mean rank over heads of each layer's attention maps."""
        ranks: Floats = self._run("rank of attention maps", "attention_rank:attention_ranks")
        return ranks

    def coded_states(self) -> CodedStates:
        """Clusters of the last-token and mean vision states, one question of every image."""
        name, function = "clusters of captured states", "information:coded_states"
        coded: CodedStates = self._derive(name, function, self._captured_states(), self.clusters)
        return coded

    def state_atoms(self) -> StateAtoms:
        """PID of the model's own answer in vision and text states."""
        name, function = "atoms of captured states", "information:state_atoms"
        atoms: StateAtoms = self._derive(name, function, self.coded_states())
        return atoms

    def state_conditions(self, *, seed: int = 0) -> StateConditions:
        """S8, S9 and S14 on captured states; `seed` splits the folds of the probes."""
        name, function = f"probes on captured states, seed {seed}", "information:state_conditions"
        measured = self._captured_states(), self.state_atoms(), self.clusters, seed
        conditions: StateConditions = self._derive(name, function, *measured)
        return conditions

    def _captured_states(self) -> CapturedStates:
        states: CapturedStates = self._run("captured states", "states:capture_states")
        return states

    def sensitivity(self, images: int, mode: str) -> MarginSensitivity:
        """Sensitivity of the answer's margin, in the modes that are measured together with `mode`.

        It is measured on the questions of the first `images` images.
        """
        items, measure = self._of_first(images), _measure("sensitivity:measure_sensitivity")
        name, modes = _together(mode)
        sensitivity: MarginSensitivity = self.measured(
            f"{name}, {len({item.cluster for item in items})} images",
            lambda: measure(self.vlm, items, modes=modes, batch_size=self.batch_size),
            forward_cost=self.sensitivity_cost(images, mode),
        )
        return sensitivity

    def sensitivity_cost(self, images: int, mode: str) -> float:
        """Cost of `sensitivity`, in forward passes over all questions."""
        passes: dict[str, float] = _measure("sensitivity:sensitivity_passes")(_together(mode)[1])
        return sum(passes.values()) * (len(self._of_first(images)) / max(1, len(self.items)))

    def _of_first(self, images: int) -> list[Item]:
        first = set(list(dict.fromkeys(self.clusters))[:images])
        return [item for item in self.items if item.cluster in first]

    def unit_bounds(self, mode: str, *, images: int, probes: bool) -> list[list[Bound]]:
        """Per unit: S6 and S7 on the first `images`, G-F and P-F, and S14, S9, S8 with `probes`.

        Probes read states between layers, so that they say nothing about a sublayer.
        """
        per_unit: list[list[Bound]] = _measure("bounds:sensitivity_bounds")(
            self.sensitivity(images, mode), mode
        )
        moved = {"freeze": self.modality_groups, "block": ("text",)}
        if groups := moved.get(MODES[mode].removes or ""):
            directions = _measure("bounds:direction_bounds")(self.profile, groups)
            per_unit = [a + b for a, b in zip(per_unit, directions, strict=True)]
        if probes and mode in SLOPE_GROUPS["slopes of the margin"]:
            states, of_unit = self.state_conditions(), _measure("bounds:state_bounds")
            per_unit = [a + of_unit(states, mode, unit) for unit, a in enumerate(per_unit)]
        return per_unit

    def candidates(self, plans: Sequence[SkipPlan]) -> list[CandidateRun]:
        """The effect of every plan on the first answer token; each plan is run once only."""
        names = [f"candidate {plan.mode} {plan.hash()[:12]}" for plan in plans]
        self._check_allowed("candidate runs", f"{len(plans)} candidates")
        waiting = {n: p for n, p in zip(names, plans, strict=True) if n not in self._made}
        # Every rule that compares candidates with the full model is charged its run once.
        self.measured(_FULL_RUN, lambda: None, requires="candidate runs")
        if waiting:
            run = _measure("candidates:run_candidates")
            runs = run(self.vlm, self.items, list(waiting.values()), batch_size=self.batch_size)
            self._made |= dict(zip(waiting, runs, strict=True))
            self.cost |= {name: run.forward_cost for name, run in zip(waiting, runs, strict=True)}
        return [self.measured(n, lambda: None, requires="candidate runs") for n in names]  # type: ignore[misc]

    def candidate_kl(self, mode: str, *, keep: float = KEEP) -> Floats:
        """(n_units,) mean `KL(p_skip || p_full)` of the first answer token, in nats."""
        runs = self.candidates(self.units(mode, keep=keep))
        return np.array([run.kl_skipped_full for run in runs])

    def labels(self) -> list[str]:
        """The true answer to every question, for a rule that requires labels."""
        self._check_allowed("labels", "the true answers")
        answers = [item.answer for item in self._labelled if item.answer is not None]
        if len(answers) < len(self._labelled) or not answers:
            raise BridgeError(
                f"rule '{self._rule}' reads labels, and {len(self._labelled) - len(answers)} of "
                f"{len(self._labelled)} questions have no answer"
            )
        return answers

    def accuracies(self, name: str, plans: Sequence[SkipPlan]) -> list[float]:
        """Accuracy of the first answer token under each plan, measured once under `name`."""
        self.labels()

        def make() -> list[float]:
            sweep = resolve_name("vlm_bridge.evaluate.sweep:sweep_outcomes")
            results = sweep(self.vlm, self._labelled, plans, batch_size=self.batch_size)
            correct = [np.array(outcomes.correct_skipped) for outcomes in results]
            return [float(self.image_mean(of_plan)) for of_plan in correct]

        return self.measured(name, make, forward_cost=float(len(plans)), requires="labels")


def _together(mode: str) -> tuple[str, tuple[str, ...]]:
    """Name and modes of the measurement of slopes that `mode` belongs to."""
    return next((name, modes) for name, modes in SLOPE_GROUPS.items() if mode in modes)


def check_profile(vlm: VLM, profile: Profile, stack: str = DECODER) -> None:
    """Raise a `BridgeError` if a profile is of another model or stack.

    One without fingerprint may fit.
    """
    if profile.fingerprint and profile.fingerprint != vlm.fingerprint:
        raise BridgeError(
            f"the profile is of {profile.model} ({profile.fingerprint[:12]}), this is {vlm.name} "
            f"({vlm.fingerprint[:12]}): weights, dtype, attention or configuration differ"
        )
    ends = {name: f"layers are those of the {words}" for name, words in STACKS.items()}
    named = (name for name, end in ends.items() if profile.index_convention.endswith(end))
    if (measured := next(named, DECODER)) != stack:
        raise BridgeError(
            f"the profile is of the {STACKS[measured]} of {profile.model}, and layers of the "
            f"{STACKS[stack]} are to be ranked; name that stack with --stack, or profile this one"
        )
    if profile.n_layers != (n := vlm.layout.depth(stack)):
        raise BridgeError(f"the profile has {profile.n_layers} layers, the model {n}")


def _measure(function: str) -> Callable[..., Any]:
    """The function `module:name` of `rules.measure`, imported when it is needed."""
    measure: Callable[..., Any] = resolve_name(f"vlm_bridge.rules.measure.{function}")
    return measure
