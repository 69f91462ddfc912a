"""Evidence whose measurements a test chooses."""

from __future__ import annotations

from tests.vlm_bridge.profiles import made_profile
from vlm_bridge.rules import Evidence

#: Number of layers of its profile.
L = 3


class Held(Evidence):
    """Evidence of 30 images whose measurements are of the test's choosing."""

    def __init__(self, **found: object) -> None:
        super().__init__(profile=made_profile(L, image=[0.1] * L))
        for name, value in found.items():
            self._made[name.replace("_", " ")] = value
            self.cost[name.replace("_", " ")] = 1.0

    @property
    def clusters(self) -> list[str]:
        return [str(image) for image in range(30)]
