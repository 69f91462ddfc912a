"""The whole path on one model: what it will take, its result, and the page about it."""

from vlm_bridge.experiments.whole_path.outlook import Outlook as Outlook
from vlm_bridge.experiments.whole_path.outlook import outlook_of as outlook_of
from vlm_bridge.experiments.whole_path.page import PAGE as PAGE
from vlm_bridge.experiments.whole_path.page import write_page as write_page
from vlm_bridge.experiments.whole_path.results import WholePath as WholePath
