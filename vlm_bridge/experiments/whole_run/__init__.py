"""The whole path on one model: profile, rules, search, certificate, comparison, cost, report."""

from vlm_bridge.experiments.whole_run.forecast import Forecast as Forecast
from vlm_bridge.experiments.whole_run.forecast import forecast as forecast
from vlm_bridge.experiments.whole_run.page import write_run as write_run
from vlm_bridge.experiments.whole_run.results import RunResult as RunResult
from vlm_bridge.experiments.whole_run.run import whole_run as whole_run
from vlm_bridge.experiments.whole_run.settings import RunSettings as RunSettings
from vlm_bridge.experiments.whole_run.settings import read_settings as read_settings
from vlm_bridge.experiments.whole_run.settings import written_settings as written_settings
from vlm_bridge.experiments.whole_run.splits import RunSplits as RunSplits
