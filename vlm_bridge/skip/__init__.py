"""Run a model under a `SkipPlan`, reversibly."""

from vlm_bridge.skip.context import skipping as skipping
from vlm_bridge.skip.support import check_support as check_support
from vlm_bridge.skip.support import supported_modes as supported_modes
