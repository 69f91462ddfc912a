"""Prune a model that describes pictures, and run it in ONNX Runtime: the same words.

Needs: pip install 'skipit[vlm,onnx]'. Two minutes on two cores; nothing is downloaded.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import vlm_bridge as vb
from vlm_bridge.data import descriptions
from vlm_bridge.model.prompts import collate

PLAN = "block layers=6"
items = descriptions("test")[:9]

with tempfile.TemporaryDirectory() as place:
    folder = vb.prune(vb.load("reference-captions"), PLAN, Path(place) / "small")
    graphs = vb.export_onnx(folder, Path(place) / "onnx")

    small = vb.load(folder)
    inputs = collate(small, items, range(len(items))).inputs
    ours = small.model.generate(**inputs, do_sample=False, max_new_tokens=64)
    ours = ours[:, inputs["input_ids"].shape[1] :].numpy()
    theirs = vb.OnnxModel(graphs).greedy(inputs, max_new_tokens=64)

print(small.tokenizer.decode(theirs[0], skip_special_tokens=True))
assert np.array_equal(ours, theirs), "ONNX Runtime says other tokens than transformers"
print(f"{PLAN}: {len(items)} answers of ONNX Runtime are those of transformers, token for token")
