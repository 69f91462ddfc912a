"""What a rule predicts, put beside what an experiment finds."""

from __future__ import annotations

from vlm_bridge.confirm.all import confirm as confirm
from vlm_bridge.confirm.all import joined as joined
from vlm_bridge.confirm.all import read_confirmation as read_confirmation
from vlm_bridge.confirm.all import write_confirmation as write_confirmation
from vlm_bridge.confirm.coincidence import Coincidence as Coincidence
from vlm_bridge.confirm.coincidence import coincidence as coincidence
from vlm_bridge.confirm.conclusions import Conclusion as Conclusion
from vlm_bridge.confirm.conclusions import conclusions as conclusions
from vlm_bridge.confirm.page import write_page as write_page
from vlm_bridge.confirm.results import Confirmation as Confirmation
from vlm_bridge.confirm.results import ModelConfirmation as ModelConfirmation
from vlm_bridge.confirm.run import confirm_model as confirm_model
