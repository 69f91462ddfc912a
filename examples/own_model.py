"""A model that is in memory already: wrap, profile, a plan in words, compare.

Needs `pip install 'skipit[vlm]'`. The model is made from a configuration with random weights, so
that nothing is downloaded; yours comes from your own training or `from_pretrained`.
"""

from __future__ import annotations

import torch
from transformers import AutoModelForImageTextToText

import vlm_bridge as vb
from vlm_bridge.data import limit_per_image, scenes

N_IMAGES = 12


def main() -> None:
    """Profile the model, skip the four layers that change image tokens least, and compare."""
    like = vb.load("reference-smolvlm")  # for its configuration and its processor
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(like.model.config).eval()

    vlm = vb.wrap(model, like.processor, name="mine")
    items = limit_per_image(scenes("test"), 1)
    profile = vb.profile(vlm, items[:N_IMAGES])
    distance = profile.values("image", "cosine_distance")
    least = sorted(distance.argsort()[:4].tolist())
    plan = "block " + ",".join(map(str, least))
    print(f"cosine distance by layer: {distance.round(3).tolist()}")
    comparison = vb.compare(vlm, items[N_IMAGES : 2 * N_IMAGES], plan, max_new_tokens=8)
    print(comparison)
    changed = comparison.disagreement
    print(f"{plan!r} changed {changed.value:.0%} of the answers of {changed.n} images")


if __name__ == "__main__":
    main()
