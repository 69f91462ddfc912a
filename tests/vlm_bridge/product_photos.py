"""A small data set of product photos in the format of the real one."""

from __future__ import annotations

import gzip

import numpy as np

from vlm_bridge.data.fashion_photos_task import PRODUCTS

#: Splits that it is large enough for.
SPLITS = {
    "train": ("train", 400),
    "profile": ("train", 40),
    "tuning": ("train", 60),
    "certification": ("test", 100),
    "test": ("test", 100),
}


def idx(array):
    """A file of the data set's own format."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


def write_photos(tmp_path, monkeypatch):
    """Write random photos, some of them copies of each other, also across the two parts."""
    draw = np.random.default_rng(0)
    source = tmp_path / "fashion-photos"
    source.mkdir()
    made = {}
    for part, count in (("train", 700), ("test", 300)):
        photos = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % len(PRODUCTS)
        made[part] = photos, labels
    made["train"][0][620:] = made["train"][0][:80]
    made["test"][0][240:] = made["train"][0][80:140]
    for part, name in (("train", "train"), ("test", "t10k")):
        photos, labels = made[part]
        (source / f"{name}-images-idx3-ubyte.gz").write_bytes(idx(photos))
        (source / f"{name}-labels-idx1-ubyte.gz").write_bytes(idx(labels))
    monkeypatch.setattr("vlm_bridge.third_party.fashion.dataset_folder", lambda _: source)
    monkeypatch.setenv("SKIPIT_CACHE", str(tmp_path / "cache"))
    return made
