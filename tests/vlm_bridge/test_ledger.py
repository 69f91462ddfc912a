"""The ledger: what is left of delta, linked images, repeated runs, two processes, broken files."""

from __future__ import annotations

import json
import multiprocessing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.certificates.clopper_pearson import clopper_pearson_upper_bound
from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.ledger import Ledger
from vlm_bridge.runtime.ledger_entries import Entry, family_of

RUN = {"what": "search", "model": "m", "fingerprint": "f" * 64}


def spend(ledger, images, delta, key, **run):
    return ledger.spend(images, delta, key=key, **(RUN | run))


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.jsonl", delta=0.05)


def test_the_second_gets_what_is_left_and_the_third_is_refused(ledger):
    first = spend(ledger, ["a", "b"], 0.03, "1")
    assert (first.delta, first.before, first.total) == (0.03, 0.0, 0.05)
    second = spend(ledger, ["a"], 0.03, "2", fingerprint="0" * 64)  # another model is no excuse
    assert (second.delta, second.before) == (0.02, 0.03)
    assert str(second) == (
        f"by the ledger {ledger.path}, delta 0.02 of 0.05 is spent here on this data "
        "and 0.03 before"
    )
    with pytest.raises(BridgeError) as refusal:
        spend(ledger, ["a", "c"], 0.001, "3")
    assert str(refusal.value) == (
        f"the ledger {ledger.path} leaves no delta for this data: a search of m (ffffffffffff), "
        "a search of m (000000000000) spent 0.05 of 0.05 on what they share; use new data, or "
        "plan ahead for several certificates: a new ledger (--ledger) with a larger total "
        "(--ledger-delta), named before the first result is read"
    )
    assert spend(ledger, ["new"], 0.05, "4").delta == 0.05


def test_the_same_run_costs_nothing(ledger):
    first = spend(ledger, ["a"], 0.05, "1")
    size = ledger.path.stat().st_size
    assert spend(ledger, ["a"], 0.05, "1") == first
    assert ledger.path.stat().st_size == size


def test_images_link_what_does_not_overlap(ledger):
    spend(ledger, ["a", "b"], 0.02, "1")
    spend(ledger, ["b", "c"], 0.02, "2")
    assert spend(ledger, ["c", "d"], 0.02, "3").delta == 0.01  # a is linked to d
    with pytest.raises(BridgeError, match="leaves no delta"):
        spend(ledger, ["d"], 0.02, "4")


def test_the_first_command_fixes_the_total(tmp_path):
    path = tmp_path / "ledger.jsonl"
    assert spend(Ledger(path), ["a"], 0.04, "1").total == 0.04
    with pytest.raises(BridgeError, match="leaves no delta"):
        spend(Ledger(path), ["a"], 0.01, "2")
    assert spend(Ledger(path), ["b"], 0.2, "3").delta == 0.04
    with pytest.raises(BridgeError, match=r"has a total delta of 0\.04, not 0\.05; it was fixed"):
        spend(Ledger(path, delta=0.05), ["c"], 0.01, "4")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from("abcdefgh"), min_size=1), st.floats(0.001, 0.2)),
        max_size=12,
    )
)
def test_no_family_spends_more_than_the_total(tmp_path_factory, requests):
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "l.jsonl", delta=0.1)
    granted = []
    for number, (images, delta) in enumerate(requests):
        try:
            spending = spend(ledger, images, delta, str(number))
        except BridgeError:
            continue
        assert 0 < spending.delta <= delta
        granted.append(Entry("", "", "", "", frozenset(images), spending.delta))
    for entry in granted:
        assert sum(each.delta for each in family_of(granted, entry.images)) <= 0.1 + 1e-9
    stored = (
        [json.loads(line) for line in ledger.path.read_text().split("\n")[1:-1]] if granted else []
    )
    assert [line["delta"] for line in stored] == [entry.delta for entry in granted]


def spend_in_a_process(path, number):
    try:
        return spend(Ledger(path, delta=0.05), ["a"], 0.01, str(number)).delta
    except BridgeError:
        return 0.0


def test_two_processes_never_spend_the_same_delta(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with multiprocessing.get_context("fork").Pool(4) as pool:
        granted = pool.starmap(spend_in_a_process, [(path, number) for number in range(20)])
    assert sorted(granted) == [0.0] * 15 + [0.01] * 5
    assert len(path.read_text().splitlines()) == 6


def test_half_a_line_of_a_killed_process_has_granted_nothing(ledger):
    spend(ledger, ["a"], 0.02, "1")
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + b'{"what": "sea')
    assert spend(ledger, ["a"], 0.05, "2").delta == 0.03
    assert ledger.path.read_bytes().startswith(whole)
    assert ledger.path.read_bytes().count(b"\n") == 3


def test_a_whole_last_line_without_newline_counts(ledger):
    spend(ledger, ["a"], 0.02, "1")
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole.rstrip(b"\n"))
    assert spend(ledger, ["a"], 0.05, "2").delta == 0.03
    assert ledger.path.read_bytes().startswith(whole)
    assert spend(ledger, ["b"], 0.05, "3").delta == 0.05
    last = lines_of(ledger)[-1].replace('"b"', '"c"')
    ledger.path.write_text("\n".join([*lines_of(ledger)[:-1], last]))  # changed, and no newline
    with pytest.raises(BridgeError, match=r"ledger\.jsonl:4: this line, or one before it, was"):
        spend(ledger, ["b"], 0.05, "4")


def test_a_header_without_newline_counts(tmp_path):
    path = tmp_path / "ledger.jsonl"
    spend(Ledger(path), ["a"], 0.02, "1")
    path.write_bytes(path.read_bytes().split(b"\n")[0])
    assert spend(Ledger(path), ["b"], 0.05, "2").total == 0.02
    assert path.read_bytes().count(b"\n") == 2


def lines_of(ledger):
    return ledger.path.read_text().split("\n")[:-1]


CHANGES = {
    "a number": lambda lines: [lines[0], lines[1].replace("0.02", "0.01"), lines[2]],
    "a line taken out": lambda lines: [lines[0], lines[2]],
    "another order": lambda lines: [lines[0], lines[2], lines[1]],
    "the total": lambda lines: [lines[0].replace("0.05", "0.50"), *lines[1:]],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_ledger_is_refused(change, ledger):
    spend(ledger, ["a"], 0.02, "1")
    spend(ledger, ["b"], 0.02, "2")
    ledger.path.write_text("\n".join(CHANGES[change](lines_of(ledger))) + "\n")
    with pytest.raises(BridgeError, match=r"ledger\.jsonl:\d: this line, or one before it, was"):
        spend(ledger, ["c"], 0.02, "3")


@pytest.mark.parametrize(
    "content",
    [
        b"{\n",
        b"[]\n",
        b"\xff\xfe\n",
        b"1\n",
        b"[" * 5000 + b"\n",
        b'{"image": "a.png", "question": "?"}',
        b"my notes, one line without an end",
        b'{"type": "Led',
    ],
)
def test_another_file_is_refused_and_left_alone(content, ledger):
    ledger.path.write_bytes(content)
    with pytest.raises(BridgeError, match=r"ledger\.jsonl:1 is no line of a ledger"):
        spend(ledger, ["a"], 0.02, "1")
    assert ledger.path.read_bytes() == content


def test_bad_requests(ledger, tmp_path):
    for delta in (0, 1, -0.1, 2, "a", True):
        with pytest.raises(BridgeError, match=r"must lie in \(0, 1\)"):
            Ledger(tmp_path / "x", delta=delta)
    with pytest.raises(BridgeError, match="there are none"):
        spend(ledger, [], 0.05, "1")
    with pytest.raises(BridgeError, match="is a folder"):
        spend(Ledger(tmp_path), ["a"], 0.05, "1")


BAD_SPENDINGS = [
    *({"delta": delta} for delta in (-0.5, 0, 1.0, float("inf"), float("nan"), True, "0.01", None)),
    *({"images": images} for images in ([1, "a"], "abc", [None])),
    *({name: None} for name in ("what", "model", "fingerprint", "key")),
]


@pytest.mark.parametrize("bad", BAD_SPENDINGS, ids=str)
def test_a_bad_spending_is_refused_before_anything_is_written(bad, ledger):
    (name,) = bad
    with pytest.raises(BridgeError, match=f"a spending: .*{name}"):
        ledger.spend(**({"images": ["a"], "delta": 0.01, "key": "1", **RUN} | bad))
    assert not ledger.path.exists()


def test_a_ledger_has_a_largest_size(ledger, monkeypatch):
    with ledger.path.open("wb") as handle:
        handle.truncate(2**40)  # sparse
    with pytest.raises(BridgeError, match="is larger than 256 MiB"):
        spend(ledger, ["a"], 0.01, "1")
    ledger.path.unlink()
    spend(ledger, ["a"], 0.01, "1")
    size = ledger.path.stat().st_size
    monkeypatch.setattr("vlm_bridge.runtime.ledger.MAX_LEDGER_BYTES", size + 9)
    with pytest.raises(BridgeError, match="is full"):
        spend(ledger, ["a"], 0.01, "2")
    assert ledger.path.stat().st_size == size


@pytest.mark.slow
@pytest.mark.parametrize("total", [None, 0.05])
def test_twenty_searches_on_the_same_images(tmp_path_factory, total):
    """Users who certify 20 plans on the same images and keep any that holds; all are false.

    Every plan changes a little more than epsilon of the answers. 120 users: without a ledger each
    certificate is at delta; with one the total is shared. Monte Carlo error at .05: .02.
    """
    rng = np.random.default_rng(0)
    epsilon, n, plans, users, deceived = 0.05, 200, 20, 120, 0
    images = [f"image {i}" for i in range(n)]
    folder = tmp_path_factory.mktemp("ledgers")
    for user in range(users):
        failures = rng.binomial(n, 1.02 * epsilon, size=plans)
        ledger = Ledger(folder / f"{user}.jsonl", delta=total) if total else None
        for number, count in enumerate(failures.tolist()):
            delta = 0.05
            if ledger is not None:
                try:
                    delta = spend(
                        ledger, images, total / plans if user % 2 else total, str(number)
                    ).delta
                except BridgeError:
                    break
            if clopper_pearson_upper_bound(count, n, delta) <= epsilon:
                deceived += 1
                break
    rate, error = deceived / users, np.sqrt(0.05 * 0.95 / users)
    if total is None:
        assert rate > 0.3  # the fault that the ledger mends
    else:
        assert rate <= 0.05 + 3 * error
