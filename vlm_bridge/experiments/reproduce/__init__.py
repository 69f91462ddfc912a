"""Published results on large models, reproduced with their weights and a GPU."""

from vlm_bridge.experiments.reproduce.needs import Machine as Machine
from vlm_bridge.experiments.reproduce.needs import needs_of as needs_of
from vlm_bridge.experiments.reproduce.page import write_reproduction as write_reproduction
from vlm_bridge.experiments.reproduce.published import PUBLISHED as PUBLISHED
from vlm_bridge.experiments.reproduce.published import Published as Published
from vlm_bridge.experiments.reproduce.published import find_published as find_published
from vlm_bridge.experiments.reproduce.run import Reproduction as Reproduction
from vlm_bridge.experiments.reproduce.run import forward_cost_of as forward_cost_of
from vlm_bridge.experiments.reproduce.run import reproduce as reproduce
