"""From many candidate plans to the largest certified one, corrected for the search."""

from vlm_bridge.plan.savings import saving as saving
from vlm_bridge.selection.candidates import bands as bands
from vlm_bridge.selection.candidates import greedy_plans as greedy_plans
from vlm_bridge.selection.certified import CertifiedPlan as CertifiedPlan
from vlm_bridge.selection.certified import certify_path as certify_path
from vlm_bridge.selection.certified import search as search
from vlm_bridge.selection.path import Step as Step
from vlm_bridge.selection.path import lazy_path as lazy_path
from vlm_bridge.selection.path import pareto_path as pareto_path
from vlm_bridge.selection.tuning import modality_share as modality_share
from vlm_bridge.selection.tuning import tuned_path as tuned_path
