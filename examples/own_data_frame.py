"""Questions in a pandas frame: items, a comparison with a scorer, and a certificate.

Needs `pip install 'skipit[vlm,scoring]' pandas`. The pictures are the drawn scenes of this package.
"""

from __future__ import annotations

import pandas as pd

import vlm_bridge as vb
from vlm_bridge.data import limit_per_image, scenes

PLAN = "freeze 4,6"


def main() -> None:
    """Compare on half of the frame, certify on the other half."""
    rows = limit_per_image(scenes("certification"), 1)[:200]
    frame = pd.DataFrame(
        {
            "photo": [str(row.image) for row in rows],
            "query": [row.question for row in rows],
            "truth": [row.answer for row in rows],
        }
    )
    columns = {"image": "photo", "question": "query", "answer": "truth"}
    items = vb.items_from(frame, columns=columns)
    vlm = vb.load("reference-smolvlm")
    said = vb.paired_answers(vlm, items[:40], PLAN, max_new_tokens=8)
    print(vb.compare_answers(said, ["anls"]).scores[0].sentence())
    certificate = vb.certify(vlm, items[40:], PLAN, epsilon=0.1)
    print(certificate)


if __name__ == "__main__":
    main()
