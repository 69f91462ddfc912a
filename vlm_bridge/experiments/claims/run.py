"""From a model to everything that is confirmed or refuted on it; what is kept is not run again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims.accuracy import Accuracies
from vlm_bridge.experiments.claims.certified_plan import best_certified
from vlm_bridge.experiments.claims.comparisons import (
    LAYERWISE,
    compared_size,
    of_origin,
    our_conditions,
    peers_of,
)
from vlm_bridge.experiments.claims.control import controls
from vlm_bridge.experiments.claims.converse import Ranking, converses
from vlm_bridge.experiments.claims.nulls import RANDOM, SHUFFLED, measure_null
from vlm_bridge.experiments.claims.overlap import Overlap, overlap
from vlm_bridge.experiments.claims.results import ModelClaims
from vlm_bridge.experiments.claims.speed import plan_speed
from vlm_bridge.experiments.rule_benchmark import (
    Case,
    ModelBenchmark,
    RuleResult,
    Settings,
    Store,
    benchmark_rules,
    open_store,
)
from vlm_bridge.observe.profile import random_copy
from vlm_bridge.plan.modes import RULE_MODES
from vlm_bridge.rules import Evidence, Rule, find_rule, own_plans
from vlm_bridge.runtime.files import read_json, write_json
from vlm_bridge.runtime.progress import track

#: What ranks frozen layers by how far vision states turn, and by nothing else.
DISTANCE = "vision distance"


def check_claims(
    case: Case,
    *,
    rules: Iterable[Rule] | None = None,
    modes: Sequence[str] = RULE_MODES,
    settings: Settings | None = None,
    folder: Path | None = None,
    null_images: int = 8,
    tokens: int = 8,
) -> ModelClaims:
    """Test every clause on one model; a second call goes on from where the first was killed.

    `benchmark_rules` measures truth, scores and certified plans. On top come the control plans, the
    converses, the nulls on few images, and the speed of one plan.

    Args:
        case: model and images.
        rules: those to benchmark; None is every one.
        modes: some of `RULE_MODES`.
        settings: of the benchmark.
        folder: its checkpoint; work of a benchmark with equal sizes is found there.
        null_images: images of each null that rules look at, and that plans are run on.
        tokens: generated to time a token; 0 leaves that out.

    Raises:
        BridgeError: unknown modes, no mode the model can do, fewer than two images for the nulls.

    Example:
        >>> found = check_claims(load_case("toy", "easy-vqa", Sizes(80, 32, 8)))  # doctest: +SKIP
        >>> conclusions(found)[3].verdict  # doctest: +SKIP
        'supported'
    """
    settings = settings or Settings()
    vlm, splits = case.vlm, case.splits
    if null_images < 2:
        raise BridgeError(f"the nulls need at least two images, got {null_images}")
    benchmark = benchmark_rules(
        vlm, splits, rules=rules, modes=modes, settings=settings, folder=folder
    )
    if not benchmark.truths:
        reasons = "; ".join(sorted({one.reason for one in benchmark.refused}))
        raise BridgeError(f"{vlm.name}: no rule could be scored in {', '.join(modes)}: {reasons}")
    store = open_store(vlm, splits, settings, folder)
    evidence = Evidence(vlm, splits.profiling, batch_size=settings.batch_size)
    ours = our_conditions(benchmark)
    with track(f"{vlm.name}: what follows", 5) as advance:
        overlaps = _overlaps(benchmark, ours, evidence)
        controlled = controls(benchmark, ours, store)
        advance(1)
        rankings = _rankings(benchmark, ours, evidence, store)
        conversed = converses(rankings, store, epsilon=settings.epsilon)
        advance(1)
        nulls = []
        for kind in (RANDOM, SHUFFLED):
            model = random_copy(vlm) if kind == RANDOM else vlm
            nulls.append(
                measure_null(
                    kind,
                    model,
                    splits,
                    benchmark,
                    ours,
                    images=null_images,
                    folder=folder,
                    batch_size=settings.batch_size,
                )
            )
            advance(1)
        certified = best_certified(benchmark, store)
        speed = None
        if certified is not None:
            speed = plan_speed(store, certified.tested.plan, settings, tokens=tokens)
        advance(1)
    (outcomes,) = store.outcomes("test", benchmark.truths[0].units[:1])
    return ModelClaims(
        data=case.data,
        benchmark=benchmark,
        accuracies=Accuracies.of(outcomes, case.training),
        certified=certified,
        speed=speed,
        overlaps=tuple(overlaps),
        controls=tuple(controlled),
        converses=tuple(conversed),
        nulls=tuple(nulls),
    )


def _overlaps(
    benchmark: ModelBenchmark, ours: Sequence[RuleResult], evidence: Evidence
) -> list[Overlap]:
    found = []
    for one in ours:
        mode, size = one.score.mode, compared_size(one)
        peers = {
            _peer_name(peer, mode): _method_scores(peer, size, evidence)
            for peer in peers_of(benchmark, one)
        }
        if peers:
            found.append(overlap(one.scores, peers, size, rule=one.score.rule, mode=mode))
    return found


def _peer_name(peer: RuleResult, mode: str) -> str:
    name = peer.score.rule
    return name if peer.score.mode == mode else f"{name} ({peer.score.mode})"


def _method_scores(peer: RuleResult, size: int, evidence: Evidence) -> Sequence[float]:
    """A method's scores; of one with plans of its own, 0 for the units of the plan of that size."""
    if peer.score.mode not in LAYERWISE:
        return peer.scores
    for plan in own_plans(find_rule(peer.score.rule), evidence, peer.score.mode) or []:
        if len(plan.layers) == size:
            return [0.0 if layer in plan.layers else 1.0 for layer in range(plan.n_layers)]
    return peer.scores


def _rankings(
    benchmark: ModelBenchmark, ours: Sequence[RuleResult], evidence: Evidence, store: Store
) -> list[Ranking]:
    """Ours, the published ones by distance, and the distance of vision where layers are frozen."""
    distances = [
        one for one in of_origin(benchmark.rules, "published") if one.condition == "geometric"
    ]
    found = [
        Ranking(one.score.rule, benchmark.truth_of(one).units, one.scores, one in distances)
        for one in (*ours, *distances)
    ]
    for truth in benchmark.truths:
        if truth.mode == "freeze":
            found.append(Ranking(DISTANCE, truth.units, _distance(evidence, store), True))
    return found


def _distance(evidence: Evidence, store: Store) -> tuple[float, ...]:
    """(n_layers,) mean cosine distance of every layer's vision states."""
    path = store.kept("vision-distance", store.hashes["profiling"])
    if path is not None and path.is_file():
        return tuple(read_json(path, "vision distances"))
    found = evidence.profile.values("image", "cosine_distance").tolist()
    if path is not None:
        write_json(path, found)
    return tuple(found)
