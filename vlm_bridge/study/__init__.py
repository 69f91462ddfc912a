"""Every rule on one model: ranked against the truth, certified, tested, timed; and as JSON."""

from __future__ import annotations

from vlm_bridge.study.promises import Promises as Promises
from vlm_bridge.study.promises import resampled as resampled
from vlm_bridge.study.results import AcrossModels as AcrossModels
from vlm_bridge.study.results import Chosen as Chosen
from vlm_bridge.study.results import ModelStudy as ModelStudy
from vlm_bridge.study.results import ModeTruth as ModeTruth
from vlm_bridge.study.results import Refusal as Refusal
from vlm_bridge.study.results import RuleResult as RuleResult
from vlm_bridge.study.results import Speed as Speed
from vlm_bridge.study.results import Study as Study
from vlm_bridge.study.run import certify_stored as certify_stored
from vlm_bridge.study.run import open_store as open_store
from vlm_bridge.study.run import study_rules as study_rules
from vlm_bridge.study.scores import ranked as ranked
from vlm_bridge.study.settings import Settings as Settings
from vlm_bridge.study.settings import Splits as Splits
from vlm_bridge.study.store import Store as Store
from vlm_bridge.study.subjects import Sizes as Sizes
from vlm_bridge.study.subjects import Subject as Subject
from vlm_bridge.study.subjects import subject as subject
