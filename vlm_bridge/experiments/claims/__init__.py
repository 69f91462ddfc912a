"""The paper's claim on trained models: each clause supported, refuted or undecided."""

from vlm_bridge.experiments.claims.page import write_page as write_page
from vlm_bridge.experiments.claims.results import ClaimsResult as ClaimsResult
from vlm_bridge.experiments.claims.results import ModelClaims as ModelClaims
from vlm_bridge.experiments.claims.results import joined as joined
from vlm_bridge.experiments.claims.results import read_claims as read_claims
from vlm_bridge.experiments.claims.run import ClaimsSettings as ClaimsSettings
from vlm_bridge.experiments.claims.run import check_claims as check_claims
from vlm_bridge.experiments.claims.run import check_models as check_models
