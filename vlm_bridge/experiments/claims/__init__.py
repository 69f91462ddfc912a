"""The registered protocol (docs/protocol.md): measured, tested and judged on trained models."""

from vlm_bridge.experiments.claims.case import load_claims_case as load_claims_case
from vlm_bridge.experiments.claims.case import read_asked as read_asked
from vlm_bridge.experiments.claims.results import ClaimsResult as ClaimsResult
from vlm_bridge.experiments.claims.results import ModelClaims as ModelClaims
from vlm_bridge.experiments.claims.results import joined as joined
from vlm_bridge.experiments.claims.results import read_claims as read_claims
from vlm_bridge.experiments.claims.run import Given as Given
from vlm_bridge.experiments.claims.run import check_claims as check_claims
from vlm_bridge.experiments.claims.settings import ClaimsSettings as ClaimsSettings
from vlm_bridge.experiments.claims.several import check_models as check_models
from vlm_bridge.experiments.claims.verdicts import judge as judge
from vlm_bridge.experiments.claims.verdicts import overall as overall
from vlm_bridge.experiments.dealing import read_places as read_places
