"""Every reader of a file: changed files are refused in one line, or read as they are."""

from __future__ import annotations

import copy
import io
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save

from estimators import Estimate, Profile
from tests.vlm_bridge.report_results import a_comparison
from vlm_bridge.data import Item, read_jsonl
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.observe.reservoir import MANIFEST, STATES, Samples
from vlm_bridge.observe.states_file import StatesFile
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.text import read_plan
from vlm_bridge.runtime.checkpoint import Checkpoint
from vlm_bridge.runtime.distributed import Ranks
from vlm_bridge.runtime.files import read_checked, read_record, write_checked, write_record

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-9, 9)
    | st.floats()
    | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)
FREEZE = SkipPlan("freeze", 6, layers=(1, 2), provenance=Provenance(rule="x", tuned=("a",)))
PLAN = SkipPlan.compose(SkipPlan("token_pruning", 6, after=4, keep=0.5), FREEZE)
ESTIMATE = Estimate(
    value=0.5, interval=(0.4, float("inf")), n=9, method="m", diagnostics={"rows": 3, "by": "x"}
)
KEY = {"run": "sweep", "model": "toy", "batch_size": 2}


@dataclass(frozen=True)
class Reader:
    """A reader of one kind of file.

    `read` returns the content as JSON, which is what the file says. With a checksum, a changed file
    is refused unless it says the same as before.
    """

    name: str
    write: Callable[[Path], Path]  # writes a valid file into a folder
    read: Callable[[Path], Any]
    checksum: bool = False


def _profile() -> Profile:
    two = (ESTIMATE, ESTIMATE)
    return Profile(
        model="toy",
        n_layers=2,
        groups=("text",),
        measures={"text": {"cosine_distance": two}},
        tail_grid=(0.1,),
        tails={"text": ((ESTIMATE,), (ESTIMATE,))},
        quantile_levels=(0.5,),
        quantiles={"text": ((0.1,), (0.2,))},
        n_images=9,
        n_rows={"text": 9},
        data_hash="ab",
    )


def _write_json(value: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "file.json"
        path.write_text(json.dumps(value))
        return path

    return write


def _write_jsonl(folder: Path) -> Path:
    rows = [{"image": "a.png", "question": f"q{i}", "answer": "a"} for i in range(3)]
    Image.new("RGB", (2, 2)).save(folder / "a.png")
    path = folder / "file.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def _items(path: Path) -> Any:
    def body(item: Item) -> dict[str, Any]:
        named = {} if item.image is None else {"image": item.image.name}
        return {**named, "question": item.question, "answer": item.answer}

    return [body(item) for item in read_jsonl(path)]


def _write_checkpoint(folder: Path) -> Path:
    path = folder / "file.jsonl"
    path.unlink(missing_ok=True)
    checkpoint = Checkpoint(path, KEY, Ranks(0, 1, None, None, ""))
    for number in range(3):
        checkpoint.add(number, {"disagree": [0.0, float("inf")], "text": "é"})
    return path


def _done(path: Path) -> Any:
    done = Checkpoint(path, KEY, Ranks(0, 1, None, None, "")).done
    return {number: json.dumps(result) for number, result in done.items()}


def _write_samples(folder: Path) -> Path:
    rows = {"text": [{"image": "a.png", "item": 0, "token": i} for i in range(3)]}
    arrays = {"text": np.ones((2, 3, 4), np.float32)}
    Samples("toy", "ab", "cd", 0, None, "convention", rows, arrays).save(folder)
    return folder / MANIFEST


def _samples(path: Path) -> Any:
    body = {
        name: value for name, value in vars(Samples.load(path.parent)).items() if name != "arrays"
    }
    return {"type": "Samples", "schema_version": Samples.SCHEMA_VERSION, **body}


READERS = [
    Reader("plan", _write_json(PLAN.to_json()), lambda p: SkipPlan.read(p).to_json()),
    Reader("single plan", _write_json(FREEZE.to_json()), lambda p: SkipPlan.read(p).to_json()),
    Reader(
        "estimate",
        _write_json(ESTIMATE.to_json()),
        lambda p: read_record(p, Estimate, "estimate").to_json(),
    ),
    Reader(
        "profile",
        _write_json(_profile().to_json()),
        lambda p: read_record(p, Profile, "profile").to_json(),
    ),
    Reader(
        "comparison",
        lambda folder: write_record(folder / "file.json", a_comparison(FREEZE, 0.1, None)),
        lambda p: read_record(p, Comparison, "comparison").to_json(),
        checksum=True,
    ),
    Reader(
        "outcomes",
        lambda folder: write_checked(
            folder / "file.json", {"order": [0, 1], "disagree": [0.0, 1.0]}
        ),
        lambda p: read_checked(p, "outcomes"),
        checksum=True,
    ),
    Reader("questions", _write_jsonl, _items),
    Reader("checkpoint", _write_checkpoint, _done, checksum=True),
    Reader("samples", _write_samples, _samples),
]
each_reader = pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value inside JSON data."""
    yield place
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*place, key))


def changed(value: Any, place: tuple[Any, ...], new: Any, how: str) -> Any:
    """JSON data with one value replaced, removed, or given a neighbour."""
    if not place:
        return new
    whole = copy.deepcopy(value)
    parent = whole
    for key in place[:-1]:
        parent = parent[key]
    if how == "replace":
        parent[place[-1]] = new
    elif how == "remove":
        del parent[place[-1]]
    elif isinstance(parent, list):
        parent.insert(place[-1], new)
    else:
        parent["more"] = new
    return whole


def read_or_refuse(reader: Reader, path: Path) -> Any:
    """What the reader returns, or None after a refusal in one line."""
    try:
        return reader.read(path)
    except BridgeError as error:
        message = str(error)
    assert message.strip()
    assert "\n" not in message
    assert len(message) < 700
    return None


def says_more(read: Any, written: Any) -> bool:
    """Whether `read` says all that was written; defaults and derived values may be added."""
    if isinstance(read, dict) and isinstance(written, dict):
        return all(
            says_more(read.get(name), value)
            for name, value in written.items()
            if name not in ("checksum", "provenance")  # images are sorted, empty fields left out
        )
    if isinstance(read, list) and isinstance(written, list):
        return len(read) == len(written) and all(map(says_more, read, written))
    return bool(read == written) and isinstance(read, bool) == isinstance(written, bool)


def fuzz_values(reader: Reader, folder: Path, data: st.DataObject) -> None:
    """Replace one value inside a valid file of JSON."""
    path = reader.write(folder)
    before, lines = reader.read(path), path.read_text().splitlines()
    at = data.draw(st.integers(0, len(lines) - 1)) if path.suffix == ".jsonl" else None
    body = json.loads(path.read_text() if at is None else lines[at])
    place = data.draw(st.sampled_from(list(places(body))))
    how = data.draw(st.sampled_from(["replace", "remove", "insert"]))
    body = changed(body, place, data.draw(VALUES), how)
    text = json.dumps(body)
    path.write_text(text if at is None else "\n".join([*lines[:at], text, *lines[at + 1 :], ""]))
    read = read_or_refuse(reader, path)
    if read is None:
        return
    if reader.checksum:
        assert read == before
    elif at is None:
        assert says_more(json.loads(json.dumps(read)), body)


def fuzz_bytes(reader: Reader, folder: Path, data: st.DataObject) -> None:
    """Flip bits of a valid file, or cut it off."""
    path = reader.write(folder)
    before, whole = reader.read(path), bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        bit = data.draw(st.integers(0, 8 * len(whole) - 1))
        whole[bit // 8] ^= 1 << bit % 8
    cut = data.draw(st.just(len(whole)) | st.integers(0, len(whole)))
    path.write_bytes(bytes(whole[:cut]))
    read = read_or_refuse(reader, path)
    if read is not None and reader.checksum:
        assert read == before or (reader.name == "checkpoint" and read.items() <= before.items())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@each_reader
@pytest.mark.parametrize("fuzz", [fuzz_values, fuzz_bytes])
@settings(max_examples=30)
@given(data=st.data())
def test_a_changed_file_is_read_or_refused(
    fuzz: Any, reader: Reader, folder: Path, data: st.DataObject
) -> None:
    fuzz(reader, folder, data)


@pytest.mark.slow
@each_reader
@pytest.mark.parametrize("fuzz", [fuzz_values, fuzz_bytes])
@settings(max_examples=600, derandomize=False)
@given(data=st.data())
def test_many_changed_files_are_read_or_refused(
    fuzz: Any, reader: Reader, folder: Path, data: st.DataObject
) -> None:
    fuzz(reader, folder, data)


@each_reader
@settings(max_examples=15)
@given(content=st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_other_file_is_refused(reader: Reader, folder: Path, content: bytes) -> None:
    path = reader.write(folder)
    path.write_bytes(content)
    read = read_or_refuse(reader, path)
    assert read is None or (reader.name == "checkpoint" and read == {})  # no whole line yet


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(["block", "freeze", "band", "+", " ", "=", ",", "-", "layers", "entry"])
        | st.text(max_size=4)
        | st.integers().map(str),
        max_size=9,
    ).map("".join)
)
def test_any_words_are_a_plan_or_refused(words: str) -> None:
    message = ""
    try:
        assert read_plan(words)(4).n_layers == 4
    except BridgeError as error:
        message = str(error)
    assert "\n" not in message


def _tensors() -> bytes:
    return bytes(save({"h.0": np.eye(3, dtype=np.float32), "h.1": np.ones((3, 3), np.float32)}))


def _archive() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, **{"h.0": np.eye(3), "h.1": np.ones((3, 3)), "clusters": np.arange(3)}
    )
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "whole"), [("a.safetensors", _tensors()), ("a.npz", _archive())])
@settings(max_examples=80)
@given(data=st.data())
def test_changed_states_are_read_or_refused(
    name: str, whole: bytes, folder: Path, data: st.DataObject
) -> None:
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 3))):
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
    (folder / name).write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    message = ""
    try:
        assert StatesFile.read(folder / name).states is not None
    except BridgeError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]},
        {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 2**63]},
        {"dtype": "XX", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]},
        {"shape": [2], "data_offsets": [0, 8]},
        [],
    ],
)
def test_a_header_that_lies_is_refused(entry: Any, tmp_path: Path) -> None:
    head = json.dumps({"h.0": entry}).encode()
    for path in (tmp_path / "a.safetensors", tmp_path / STATES):
        path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(8))
        with pytest.raises(BridgeError, match=r"cannot read states from|not real numbers"):
            StatesFile.read(path)
