"""The server over a socket: many clients at once, streams as they grow, clients that leave."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import vlm_bridge as vb
from tests.vlm_bridge.asking import CHAT, body, streamed, text_of
from tests.vlm_bridge.tiny import asked_pictures, tiny_llava
from vlm_bridge.data import scenes
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.server.answering import Answering
from vlm_bridge.server.run import serving
from vlm_bridge.server.settings import ServerSettings
from vlm_bridge.server.watched import Watched

BLOCK = SkipPlan("block", 4, layers=(1, 3))
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def vlm():
    return tiny_llava()


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return asked_pictures(tmp_path_factory.mktemp("asked"), 6)


def alone(vlm, items, plan):
    with vb.skipping(vlm, plan):
        return vb.answer(vlm, items, batch_size=1, max_new_tokens=8)


def health(url):
    return httpx.get(f"{url}/health").json()


def wait_until(holds):
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_clients_over_a_socket(vlm, asked):
    want = alone(vlm, asked, BLOCK)
    with serving(vlm, BLOCK) as url, ThreadPoolExecutor(6) as clients:
        replies = list(clients.map(lambda it: httpx.post(url + CHAT, json=body(it)), asked))
        assert [text_of(reply) for reply in replies] == want
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    assert not [t for t in threading.enumerate() if t.name.startswith("skipit")]


def test_a_stream_comes_piece_by_piece(vlm, asked, monkeypatch):
    """The first piece is there before the last token is generated."""
    call, go = Watched.__call__, threading.Event()

    def slow(self, ids, scores, **rest):
        assert self.steps < 5 or go.wait(30)
        return call(self, ids, scores, **rest)

    monkeypatch.setattr(Watched, "__call__", slow)
    texts = alone(vlm, asked, BLOCK)
    item = asked[max(range(len(asked)), key=lambda place: len(texts[place]))]
    got = ""
    with serving(vlm, BLOCK) as url:
        with httpx.stream("POST", url + CHAT, json=body(item, stream=True), timeout=30) as reply:
            for piece in reply.iter_text():
                got += piece
                if '"delta": {"content": "' in got:
                    go.set()
    assert streamed(got) == alone(vlm, [item], BLOCK)[0]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_that_leaves_ends_its_row_alone(vlm, asked, monkeypatch, stream, tmp_path):
    """Two rows of a batch: one leaves while it is generated, the other is answered and audited."""
    call, begun, gone = Watched.__call__, threading.Event(), threading.Event()
    ended = []

    def slow(self, ids, scores, **rest):
        if self.steps == 2:
            begun.set()
            assert gone.wait(30)
        over = call(self, ids, scores, **rest)
        ended.append(over.tolist())
        return over

    monkeypatch.setattr(Watched, "__call__", slow)
    long = [
        item
        for item, text in zip(asked, alone(vlm, asked, BLOCK), strict=True)
        if len(text.split()) > 4
    ]
    settings = ServerSettings(wait=0.3, batch_size=2)
    audits = {"audit": 1.0, "monitor": tmp_path / "monitor.json"}
    served = serving(vlm, BLOCK, settings=settings, **audits)
    with served as url, ThreadPoolExecutor(1) as clients:
        stays = clients.submit(httpx.post, url + CHAT, json=body(long[0]), timeout=30)
        client = httpx.Client()
        leaving = client.build_request("POST", url + CHAT, json=body(long[-1], stream=stream))
        if stream:
            opened = client.send(leaving, stream=True)
            assert begun.wait(30)
            opened.close()
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.send(
                    client.build_request("POST", url + CHAT, json=body(long[-1]), timeout=1.0)
                )
            assert begun.wait(30)
        client.close()
        wait_until(lambda: health(url)["running"] == 1)
        gone.set()
        said = text_of(stays.result())
    assert said == alone(vlm, long[:1], BLOCK)[0]
    assert vb.Monitor(audits["monitor"]).state.alarm.n == 1  # a row that was cut off is no answer
    assert [True, False] in ended or [False, True] in ended


def test_a_client_that_leaves_frees_its_place(vlm, asked, monkeypatch):
    go, begun, sizes = threading.Event(), threading.Event(), []
    answer = Answering.answer

    def held(self, jobs):
        sizes.append(len(jobs))
        begun.set()
        assert go.wait(30)
        answer(self, jobs)

    monkeypatch.setattr(Answering, "answer", held)
    with serving(vlm, BLOCK, settings=ServerSettings(queue=1)) as url:
        with ThreadPoolExecutor(2) as clients:
            first = clients.submit(httpx.post, url + CHAT, json=body(asked[0]), timeout=30)
            assert begun.wait(30)
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(url + CHAT, json=body(asked[1]), timeout=0.5)
            wait_until(lambda: health(url)["waiting"] == 0)
            second = clients.submit(httpx.post, url + CHAT, json=body(asked[2]), timeout=30)
            wait_until(lambda: health(url)["waiting"] == 1)
            go.set()
            said = [text_of(first.result()), text_of(second.result())]
    assert said == alone(vlm, [asked[0], asked[2]], BLOCK)
    assert sizes == [1, 1]


def test_a_port_that_is_taken(vlm):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BridgeError, match=f"cannot listen at 127.0.0.1 port {port}"):
            vb.serve(vlm, None, port=port)


ANSWERS, CLIENTS = 400, 8


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "freeze", "adaptive"])
def test_no_answer_of_400_is_wrong(kind):
    """8 clients at once, half of them with streams, against single runs."""
    vlm = vb.load("reference-qwen2.5-vl")
    items = scenes("test")[:100]
    skip = vb.read_plan("freeze 2-5")(vlm.layout.depth)
    gate = vb.AdaptivePlan((vb.Gate(vb.read_plan("block 5")(vlm.layout.depth), "margin", 2.0),))
    plan = {"full": None, "freeze": skip, "adaptive": gate}[kind]
    if kind == "adaptive":
        one = vb.adaptive_answers(vlm, items, gate, batch_size=1, max_new_tokens=8)
        want, gates = one.texts, one.gates
        assert set(gates) == {0, 1}
    elif plan is None:
        want = vb.answer(vlm, items, batch_size=1, max_new_tokens=8)
    else:
        want = alone(vlm, items, plan)
    if kind == "freeze":
        assert want != vb.answer(vlm, items, max_new_tokens=8)
    wrong, batches = [], []
    with serving(vlm, plan, settings=ServerSettings(wait=0.02)) as url:
        with httpx.Client(base_url=url, timeout=120) as client:

            def ask(place):
                number = place % len(items)
                stream = place % 2 == 1
                reply = client.post(CHAT, json=body(items[number], stream=stream))
                said = streamed(reply.text) if stream else text_of(reply)
                if said != want[number]:
                    wrong.append((number, said, want[number]))
                if not stream and kind == "adaptive":
                    batches.append(reply.json()["skipit"]["gate"] == gates[number])

            with ThreadPoolExecutor(CLIENTS) as clients:
                assert len(list(clients.map(ask, range(ANSWERS)))) == ANSWERS
    assert not wrong
    assert all(batches)


@pytest.mark.slow
def test_the_command_starts_answers_and_stops(tmp_path):
    command = [sys.executable, "-m", "vlm_bridge", "serve", "reference-qwen2.5-vl"]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = tmp_path / "log"
    with log.open("w") as handle:
        server = subprocess.Popen(
            [*command, "--plan", "freeze 2-5", "--port", str(port)],
            cwd=ROOT,
            stderr=handle,
            stdout=handle,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        try:
            url = f"http://127.0.0.1:{port}"
            answered = False
            for _ in range(600):
                try:
                    answered = httpx.get(f"{url}/health").status_code == 200
                    break
                except httpx.TransportError:
                    assert server.poll() is None, log.read_text()
                    time.sleep(0.1)
            assert answered
            reply = httpx.post(url + CHAT, json=body(scenes("test")[0]), timeout=60)
            assert text_of(reply)
            assert reply.json()["skipit"]["plan"] == "freeze vision tokens in layers 2-5 (4 of 8)"
        finally:
            server.send_signal(signal.SIGINT)
            code = server.wait(30)
    assert code == 0, log.read_text()
    assert "Traceback" not in log.read_text()
