"""Published results on large models, for people who have the weights and a GPU."""

from __future__ import annotations

from vlm_bridge.reproduce.needs import Needs as Needs
from vlm_bridge.reproduce.needs import needs_of as needs_of
from vlm_bridge.reproduce.published import PUBLISHED as PUBLISHED
from vlm_bridge.reproduce.published import Published as Published
from vlm_bridge.reproduce.published import find_published as find_published
