"""Lossless generation: a skipped model drafts tokens, the full model verifies them."""

from vlm_bridge.skip.lossless.generate import generate_lossless as generate_lossless
from vlm_bridge.skip.lossless.result import LosslessTokens as LosslessTokens
