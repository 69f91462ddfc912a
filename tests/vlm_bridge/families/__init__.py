"""Tiny random models of the real transformers classes, and inputs made by hand for them.

No processor is involved, so every family sees the same situations.
"""

from __future__ import annotations

from tests.vlm_bridge.families.inputs import SITUATIONS as SITUATIONS
from tests.vlm_bridge.families.inputs import batch as batch
from tests.vlm_bridge.families.inputs import chunks as chunks
from tests.vlm_bridge.families.plans import PLANS as PLANS
from tests.vlm_bridge.families.table import FAMILIES as FAMILIES
from tests.vlm_bridge.families.table import FULL as FULL
from tests.vlm_bridge.families.table import Family as Family
from tests.vlm_bridge.families.table import build as build
from tests.vlm_bridge.families.table import tiny as tiny
from tests.vlm_bridge.families.unlisted import UNLISTED as UNLISTED
