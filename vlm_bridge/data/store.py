"""The cache folder of generated images and built models."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_root() -> Path:
    """`$SKIPIT_CACHE`, else the user's cache folder."""
    override = os.environ.get("SKIPIT_CACHE")
    return Path(override) if override else user_cache_path("skipit")
