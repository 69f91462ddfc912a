"""The cost of a plan, full against skipped: FLOPs, latency, peak memory, cache."""

from vlm_bridge.cost.flops import count_flops as count_flops
from vlm_bridge.cost.lossless import LosslessPrediction as LosslessPrediction
from vlm_bridge.cost.lossless import expected_tokens as expected_tokens
from vlm_bridge.cost.lossless import predict_lossless as predict_lossless
from vlm_bridge.cost.lossless_runs import LosslessSpeed as LosslessSpeed
from vlm_bridge.cost.lossless_runs import PassTimes as PassTimes
from vlm_bridge.cost.lossless_runs import acceptance_rate as acceptance_rate
from vlm_bridge.cost.lossless_runs import pass_times as pass_times
from vlm_bridge.cost.lossless_runs import time_lossless as time_lossless
from vlm_bridge.cost.measure import Cost as Cost
from vlm_bridge.cost.measure import cost_inside as cost_inside
from vlm_bridge.cost.measure import cost_of_inputs as cost_of_inputs
from vlm_bridge.cost.measure import measure_cost as measure_cost
from vlm_bridge.cost.measure import prefill_pairs as prefill_pairs
from vlm_bridge.cost.memory import cache_bytes as cache_bytes
from vlm_bridge.cost.memory import peak_bytes as peak_bytes
from vlm_bridge.cost.phase import PhaseCost as PhaseCost
