"""What lmms-eval reads at the entry point `lmms_eval.models`: where the model `skipit` is."""

from __future__ import annotations

from lmms_eval.models.registry_v2 import ModelManifest


def manifest() -> ModelManifest:
    """The name `skipit` and its class, which lmms-eval imports when a run names it."""
    return ModelManifest(
        model_id="skipit",
        simple_class_path="vlm_bridge.harness.lmms_eval_model.SkippedLmms",
    )
