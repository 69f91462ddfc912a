"""Texts of the library of the Python that runs: read, not imported; split for good."""

import sys

import pytest

from vlm_bridge.data import PYTHON_DOCS_SPLITS, image_ids, python_docs
from vlm_bridge.data import python_docs_task as task
from vlm_bridge.errors import BridgeError


@pytest.mark.slow
def test_splits_share_no_text():
    before = set(sys.modules)
    splits = {name: python_docs(name) for name in PYTHON_DOCS_SPLITS}
    assert set(sys.modules) - before <= {"ast", "hashlib", "sysconfig", "_sysconfigdata"}
    seen = [set(image_ids(items)) for items in splits.values()]
    assert sum(map(len, seen)) == len(set.union(*seen))
    for name, size in PYTHON_DOCS_SPLITS.items():
        assert len(splits[name]) == size or (size == 0 and splits[name])
    texts = [item.question for items in splits.values() for item in items]
    assert {len(text.split()) for text in texts} == {60}
    assert all(item.kinds == ("text",) and item.answer is None for item in splits["test"])


def test_a_new_module_moves_no_other_text_far(tmp_path):
    """The order is by a hash of the module's name, not by its place in the list."""
    text = " ".join(f"word{n}" for n in range(70))
    for number in range(205):
        (tmp_path / f"m{number}.py").write_text(f'"""{text} {number}"""\n"""not this"""')
        (tmp_path / f"m{number}.py").write_text(f'"""{number} {text}"""')
    (tmp_path / "short.py").write_text('"""too short"""')
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "t.py").write_text(f'"""t {text}"""')
    (tmp_path / "copy.py").write_text((tmp_path / "m7.py").read_text())
    found = task._texts.__wrapped__(tmp_path)
    assert len(found) == 205  # equal texts once, and none of the tests, the short and the broken
    assert found["m3.py"].startswith("3 word0 word1")
    (tmp_path / "late.py").write_text("def f():\n    " + f'"""late {text}"""')
    assert task._texts.__wrapped__(tmp_path)["late.py"].startswith("late word0")


def test_too_few_modules_are_refused(tmp_path):
    with pytest.raises(BridgeError, match="holds 0 modules with a docstring of 60 words"):
        task._texts.__wrapped__(tmp_path)


def test_an_unknown_split_is_named():
    with pytest.raises(BridgeError, match="no split 'train'; it has test, certification, tuning"):
        python_docs("train")
