"""The cost of a plan, full against skipped: FLOPs, latency, peak memory, cache."""

from vlm_bridge.cost.flops import count_flops as count_flops
from vlm_bridge.cost.measure import Cost as Cost
from vlm_bridge.cost.measure import cost_inside as cost_inside
from vlm_bridge.cost.measure import cost_of_inputs as cost_of_inputs
from vlm_bridge.cost.measure import measure_cost as measure_cost
from vlm_bridge.cost.measure import prefill_pairs as prefill_pairs
from vlm_bridge.cost.memory import cache_bytes as cache_bytes
from vlm_bridge.cost.memory import peak_bytes as peak_bytes
from vlm_bridge.cost.phase import PhaseCost as PhaseCost
