"""Carry a `SkipPlan` out on a live model, reversibly."""

from __future__ import annotations

from vlm_bridge.skip.context import skipping as skipping
