"""What a rule predicts, put beside what an experiment finds."""

from __future__ import annotations

from vlm_bridge.experiments.claims.coincidence import Coincidence as Coincidence
from vlm_bridge.experiments.claims.coincidence import coincidence as coincidence
from vlm_bridge.experiments.claims.conclusions import Conclusion as Conclusion
from vlm_bridge.experiments.claims.conclusions import conclusions as conclusions
from vlm_bridge.experiments.claims.many_models import confirm as confirm
from vlm_bridge.experiments.claims.many_models import joined as joined
from vlm_bridge.experiments.claims.many_models import read_confirmation as read_confirmation
from vlm_bridge.experiments.claims.many_models import write_confirmation as write_confirmation
from vlm_bridge.experiments.claims.page import write_page as write_page
from vlm_bridge.experiments.claims.results import Confirmation as Confirmation
from vlm_bridge.experiments.claims.results import ModelConfirmation as ModelConfirmation
from vlm_bridge.experiments.claims.run import confirm_model as confirm_model
