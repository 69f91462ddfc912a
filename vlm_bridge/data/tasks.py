"""The project's task sets by name."""

from __future__ import annotations

from collections.abc import Callable

from vlm_bridge.data.easy_vqa_task import easy_vqa
from vlm_bridge.data.items import Item
from vlm_bridge.data.scenes_task import scenes

#: task set -> its items by split
TASKS: dict[str, Callable[[str], list[Item]]] = {"easy-vqa": easy_vqa, "scenes": scenes}
