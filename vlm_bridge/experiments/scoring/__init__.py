"""How well a rule predicts which units can be skipped."""

from vlm_bridge.experiments.scoring.across import LeftOut as LeftOut
from vlm_bridge.experiments.scoring.across import leave_one_model_out as leave_one_model_out
from vlm_bridge.experiments.scoring.score import RuleScore as RuleScore
from vlm_bridge.experiments.scoring.score import auc as auc
from vlm_bridge.experiments.scoring.score import false_safe as false_safe
from vlm_bridge.experiments.scoring.score import score_rule as score_rule
from vlm_bridge.experiments.scoring.score import spearman_difference as spearman_difference
from vlm_bridge.experiments.scoring.truth import HARMFUL as HARMFUL
from vlm_bridge.experiments.scoring.truth import SAFE as SAFE
from vlm_bridge.experiments.scoring.truth import UNDETERMINED as UNDETERMINED
from vlm_bridge.experiments.scoring.truth import Truth as Truth
