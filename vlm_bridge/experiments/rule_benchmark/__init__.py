"""Benchmark of skip rules: ranked against measured disagreement, certified, tested and timed."""

from vlm_bridge.experiments.rule_benchmark.cases import Case as Case
from vlm_bridge.experiments.rule_benchmark.cases import load_case as load_case
from vlm_bridge.experiments.rule_benchmark.error_rate import ErrorRateCheck as ErrorRateCheck
from vlm_bridge.experiments.rule_benchmark.error_rate import check_error_rate as check_error_rate
from vlm_bridge.experiments.rule_benchmark.results import AcrossModels as AcrossModels
from vlm_bridge.experiments.rule_benchmark.results import Chosen as Chosen
from vlm_bridge.experiments.rule_benchmark.results import Margin as Margin
from vlm_bridge.experiments.rule_benchmark.results import ModelBenchmark as ModelBenchmark
from vlm_bridge.experiments.rule_benchmark.results import ModeTruth as ModeTruth
from vlm_bridge.experiments.rule_benchmark.results import RuleBenchmark as RuleBenchmark
from vlm_bridge.experiments.rule_benchmark.results import RuleResult as RuleResult
from vlm_bridge.experiments.rule_benchmark.run import benchmark_rules as benchmark_rules
from vlm_bridge.experiments.rule_benchmark.run import certify_stored as certify_stored
from vlm_bridge.experiments.rule_benchmark.run import open_store as open_store
from vlm_bridge.experiments.rule_benchmark.scores import ranked as ranked
from vlm_bridge.experiments.rule_benchmark.settings import Settings as Settings
from vlm_bridge.experiments.rule_benchmark.settings import Sizes as Sizes
from vlm_bridge.experiments.rule_benchmark.settings import Splits as Splits
from vlm_bridge.experiments.rule_benchmark.store import Store as Store
from vlm_bridge.experiments.rule_benchmark.store import compare_on_test as compare_on_test
from vlm_bridge.experiments.rule_benchmark.store import plan_cost as plan_cost
