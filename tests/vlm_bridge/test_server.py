"""The server in one process: answers are those of single runs, and no request hurts another."""

from __future__ import annotations

import asyncio
import math
import threading

import httpx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vlm_bridge as vb
from tests.vlm_bridge.asking import CHAT, body, events_of, inside, streamed, text_of
from tests.vlm_bridge.tiny import asked_pictures, tiny_llava
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.server.answering import Answering
from vlm_bridge.server.auditing import Auditing
from vlm_bridge.server.settings import ServerSettings

BLOCK = SkipPlan("block", 4, layers=(1, 3))
MIXED = vb.AdaptivePlan((vb.Gate(BLOCK, "margin", 0.05),))
TOKENS = vb.AdaptivePlan((vb.Gate(BLOCK, "margin", 0.05, over="token"),))
PLANS = {
    "full": None,
    "block": BLOCK,
    "freeze": "freeze 1-2",
    "adaptive": MIXED,
    "tokens": TOKENS,
}
NAMED = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
PATIENT = ServerSettings(wait=0.2)


@pytest.fixture(scope="module")
def vlm():
    return tiny_llava()


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return asked_pictures(tmp_path_factory.mktemp("asked"), 12)


def alone(vlm, items, plan):
    """Single runs, one after another."""
    if isinstance(plan, vb.AdaptivePlan):
        return list(vb.adaptive_answers(vlm, items, plan, batch_size=1, max_new_tokens=8).texts)
    if plan is None:
        return vb.answer(vlm, items, batch_size=1, max_new_tokens=8)
    with vb.skipping(vlm, plan):
        return vb.answer(vlm, items, batch_size=1, max_new_tokens=8)


async def ask_all(client, items, **fields):
    asked = (client.post(CHAT, json=body(item, **fields)) for item in items)
    return await asyncio.gather(*asked)


def in_server(vlm, plan, work, **options):
    """The result of `work(client)` against a server."""

    async def run():
        async with inside(vb.server_app(vlm, plan, **options)) as client:
            return await work(client)

    return asyncio.run(run())


@NAMED
def test_answers_in_batches_are_those_of_single_runs(vlm, asked, plan, monkeypatch):
    sizes = []
    answer = Answering.answer

    def counted(self, jobs):
        sizes.append(len(jobs))
        answer(self, jobs)

    monkeypatch.setattr(Answering, "answer", counted)
    replies = in_server(vlm, plan, lambda client: ask_all(client, asked), settings=PATIENT)
    assert [text_of(reply) for reply in replies] == alone(vlm, asked, plan)
    assert max(sizes) > 4


@NAMED
def test_a_stream_is_the_whole_answer(vlm, asked, plan):
    replies = in_server(
        vlm, plan, lambda client: ask_all(client, asked, stream=True), settings=PATIENT
    )
    assert [streamed(reply.text) for reply in replies] == alone(vlm, asked, plan)
    several = [len(events_of(reply.text)) for reply in replies]
    assert (max(several) > 5) == (not isinstance(plan, vb.AdaptivePlan))
    assert all(reply.headers["content-type"].startswith("text/event-stream") for reply in replies)


def test_mixed_decisions_in_a_batch(vlm, asked):
    want = vb.adaptive_answers(vlm, asked, MIXED, max_new_tokens=8)
    assert set(want.gates) == {0, 1}
    replies = in_server(vlm, MIXED, lambda client: ask_all(client, asked), settings=PATIENT)
    said = [reply.json()["skipit"] for reply in replies]
    assert [one["gate"] for one in said] == list(want.gates)
    assert [one["full_model"] for one in said] == [gate == 1 for gate in want.gates]
    assert {one["plan_hash"] for one in said} == {MIXED.hash()}


def test_the_reply_says_what_answered_and_how_long_it_is(vlm, asked):
    async def work(client):
        reply = await client.post(CHAT, json=body(asked[0], max_tokens=3))
        fields = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 3}
        stream = await client.post(CHAT, json=body(asked[0], **fields))
        models, health = await client.get("/v1/models"), await client.get("/health")
        return reply.json(), events_of(stream.text), models.json(), health.json()

    reply, events, models, health = in_server(vlm, BLOCK, work)
    name = f"tiny@{BLOCK.hash()[:12]}"
    assert reply["model"] == models["data"][0]["id"] == health["model"] == name
    assert reply["object"] == "chat.completion"
    assert reply["skipit"] == {"plan": BLOCK.describe(), "plan_hash": BLOCK.hash()}
    with vb.skipping(vlm, BLOCK):
        inputs = vb.model.prompts.collate(vlm, asked, [0]).inputs
        row = vlm.model.generate(**inputs, max_new_tokens=3, do_sample=False)[0]
    length, new = inputs["input_ids"].shape[1], row[inputs["input_ids"].shape[1] :].tolist()
    used = {"prompt_tokens": length, "completion_tokens": len(new)}
    assert reply["usage"] == {**used, "total_tokens": length + len(new)}
    assert reply["choices"][0]["finish_reason"] == ("stop" if new[-1] == 1 else "length")
    assert events[-1]["usage"] == reply["usage"]
    assert events[-2]["skipit"] == reply["skipit"]
    assert health == {"status": "ok", "model": name, "waiting": 0, "running": 0}


def test_drawn_answers_are_repeated_by_their_seed(vlm, asked):
    async def work(client):
        state = torch.random.get_rng_state()
        some = [await client.post(CHAT, json=body(asked[0], temperature=2.0)) for _ in range(6)]
        seeds = [reply.json()["skipit"]["seed"] for reply in some]
        drawn = {"temperature": 2.0}
        again = [await client.post(CHAT, json=body(asked[0], seed=s, **drawn)) for s in seeds]
        assert torch.equal(state, torch.random.get_rng_state())
        return [text_of(reply) for reply in some], [text_of(reply) for reply in again]

    some, again = in_server(vlm, BLOCK, work)
    assert some == again
    assert len(set(some)) > 1


def test_drawn_answers_of_an_adaptive_plan_are_refused(vlm, asked):
    reply = in_server(vlm, MIXED, lambda c: c.post(CHAT, json=body(asked[0], temperature=1.0)))
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "temperature"


def test_a_request_that_is_wrong_hurts_no_other(vlm, asked):
    """A stand-in of images in the text is refused when the batch is made."""
    wrong = vb.Item(asked[0].image, "what is <image> ?")
    long = vb.Item(asked[0].image, "red " * 90)
    items = [*asked[:3], wrong, *asked[3:6], long]
    limited = ServerSettings(wait=0.2, prompt_tokens=60)
    replies = in_server(vlm, BLOCK, lambda client: ask_all(client, items), settings=limited)
    good = [reply for place, reply in enumerate(replies) if place not in (3, 7)]
    assert [text_of(reply) for reply in good] == alone(vlm, asked[:6], BLOCK)
    for place, says in ((3, "'<image>', which stands for an image"), (7, "at most 60")):
        assert replies[place].status_code == 400
        assert says in replies[place].json()["error"]["message"]
        assert "'messages'" in replies[place].json()["error"]["message"]


def test_a_row_that_breaks_the_model_fails_alone(vlm, asked, monkeypatch):
    generate, (bad,) = vlm.model.generate, vlm.tokenizer("circle")["input_ids"]

    def broken(*args, input_ids, **rest):
        if (input_ids == bad).any():
            raise RuntimeError("out of memory")
        return generate(*args, input_ids=input_ids, **rest)

    monkeypatch.setattr(vlm.model, "generate", broken)
    replies = in_server(vlm, None, lambda client: ask_all(client, asked), settings=PATIENT)
    failed = [reply.status_code for reply in replies]
    assert failed == [500 if "circle" in item.question.split() else 200 for item in asked]
    assert {200, 500} == set(failed)
    monkeypatch.undo()
    good = [item for item, status in zip(asked, failed, strict=True) if status == 200]
    assert [text_of(reply) for reply in replies if reply.status_code == 200] == alone(
        vlm, good, None
    )


class Held:
    """Holds the first batch until it is let go."""

    def __init__(self, monkeypatch):
        self.begun, self.go, self.sizes = threading.Event(), threading.Event(), []
        answer = Answering.answer

        def held(answering, jobs):
            self.sizes.append(len(jobs))
            self.begun.set()
            assert self.go.wait(30)
            answer(answering, jobs)

        monkeypatch.setattr(Answering, "answer", held)

    async def first(self, client, item):
        """A request that runs until it is let go."""
        task = asyncio.ensure_future(client.post(CHAT, json=body(item)))
        await asyncio.to_thread(self.begun.wait, 30)
        return task


async def until(client, **want):
    """Wait until /health says so."""
    for _ in range(1000):
        health = (await client.get("/health")).json()
        if all(health[name] == value for name, value in want.items()):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{health} is not {want}")


def test_a_full_queue_is_refused_with_retry_after(vlm, asked, monkeypatch):
    held = Held(monkeypatch)

    async def work(client):
        tasks = [await held.first(client, asked[0])]
        tasks += [asyncio.ensure_future(client.post(CHAT, json=body(i))) for i in asked[1:3]]
        await until(client, waiting=2, running=1)
        full = await client.post(CHAT, json=body(asked[3]))
        held.go.set()
        return full, await asyncio.gather(*tasks)

    full, replies = in_server(vlm, BLOCK, work, settings=ServerSettings(queue=2))
    assert full.status_code == 503
    assert full.headers["retry-after"] == "1"
    assert "2 requests wait" in full.json()["error"]["message"]
    assert [text_of(reply) for reply in replies] == alone(vlm, asked[:3], BLOCK)


def test_unequal_settings_share_no_batch(vlm, asked, monkeypatch):
    held = Held(monkeypatch)

    async def work(client):
        tasks = [await held.first(client, asked[0])]
        for longest in (3, 8, 3, 8):
            fields = body(asked[1], max_tokens=longest)
            tasks.append(asyncio.ensure_future(client.post(CHAT, json=fields)))
        await until(client, waiting=4)
        held.go.set()
        return await asyncio.gather(*tasks)

    replies = in_server(vlm, BLOCK, work)
    assert held.sizes == [1, 2, 2]
    used = [reply.json()["usage"]["completion_tokens"] for reply in replies[1:]]
    assert used[0] == used[2] <= 3
    assert used[1] == used[3]


def test_closing_refuses_what_waits_and_cuts_what_runs(vlm, asked, monkeypatch):
    held = Held(monkeypatch)

    async def run():
        app = vb.server_app(vlm, BLOCK)
        async with inside(app) as client:
            tasks = [await held.first(client, asked[0])]
            tasks.append(asyncio.ensure_future(client.post(CHAT, json=body(asked[1]))))
            await until(client, waiting=1)
            threading.Timer(0.2, held.go.set).start()
        return await asyncio.gather(*tasks, return_exceptions=True)

    replies = asyncio.run(run())
    assert [reply.status_code for reply in replies] == [503, 503]
    assert "shutting down" in replies[0].json()["error"]["message"]
    assert not [t for t in threading.enumerate() if t.name == "skipit-server"]
    assert vb.answer(vlm, asked[:1], max_new_tokens=8) == alone(vlm, asked[:1], None)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/docs", 404), ("GET", "/openapi.json", 404), ("GET", CHAT, 405)],
)
def test_other_paths_are_refused_in_json(vlm, method, path, status):
    reply = in_server(vlm, None, lambda client: client.request(method, path))
    assert reply.status_code == status
    assert path in reply.json()["error"]["message"]


def test_bodies_of_another_type_or_too_long(vlm, asked):
    async def work(client):
        plain = await client.post(CHAT, content=b"{}", headers={"content-type": "text/plain"})
        long = await client.post(CHAT, json=body(asked[0], user="x" * 3000))
        return plain, long

    plain, long = in_server(vlm, None, work, settings=ServerSettings(body_bytes=2000))
    assert (plain.status_code, long.status_code) == (415, 413)
    assert "application/json" in plain.json()["error"]["message"]
    assert "2000 bytes" in long.json()["error"]["message"]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["messages", "stop", "stream", "seed"]), ANY, min_size=1))
def test_any_malformed_body_is_a_4xx(vlm, fields):
    reply = in_server(vlm, None, lambda client: client.post(CHAT, json=fields))
    assert 400 <= reply.status_code < 500
    error = reply.json()["error"]
    assert f"'{error['param']}" in error["message"]


def test_audits_go_to_a_monitor(vlm, asked, tmp_path):
    path = tmp_path / "monitor.json"
    full, skipped = alone(vlm, asked, None), alone(vlm, asked, BLOCK)
    changed = sum(a != b for a, b in zip(full, skipped, strict=True))
    assert 0 < changed

    async def work(client):
        replies = await ask_all(client, asked)
        await client.post(CHAT, json=body(asked[0], temperature=1.0))  # is not audited
        want = {"share": 1.0, "n": 12, "changed": changed, "rings": True, "failure": None}
        await until(client, audit=want)
        return replies

    replies = in_server(vlm, BLOCK, work, audit=1.0, monitor=path)
    assert [text_of(reply) for reply in replies] == skipped
    alarm = vb.Monitor(path).state.alarm
    assert (alarm.n, alarm.n_changed) == (len(asked), changed)


def test_the_alarm_is_about_the_share_that_was_certified(vlm, tmp_path):
    path = tmp_path / "monitor.json"
    assert Auditing(vlm, path, 0.5, 0.2).alarm.epsilon == 0.2
    vb.server_app(vlm, BLOCK, audit=0.5, monitor=path, epsilon=0.2)
    with pytest.raises(BridgeError, match="epsilon is of the alarm about audits"):
        vb.server_app(vlm, BLOCK, epsilon=0.2)


def test_an_application_that_was_not_started_says_so(vlm, asked):
    """As one that is mounted into another, whose lifespan nobody runs: no request hangs."""

    async def work():
        transport = httpx.ASGITransport(vb.server_app(vlm, BLOCK))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.post(CHAT, json=body(asked[0]))

    reply = asyncio.run(work())
    assert reply.status_code == 503
    assert "was not started" in reply.json()["error"]["message"]


def test_the_layers_are_whole_again(vlm, asked):
    before = alone(vlm, asked, None)
    in_server(vlm, BLOCK, lambda client: ask_all(client, asked))
    assert alone(vlm, asked, None) == before


def test_what_cannot_be_served(vlm, tmp_path):
    with pytest.raises(BridgeError, match="layers"):
        vb.server_app(vlm, SkipPlan("block", 9, layers=(1,)))
    with pytest.raises(BridgeError, match="go together"):
        vb.server_app(vlm, BLOCK, audit=0.5)
    with pytest.raises(BridgeError, match="give a plan"):
        vb.server_app(vlm, None, audit=0.5, monitor=tmp_path / "m.json")
    with pytest.raises(BridgeError, match="share"):
        vb.server_app(vlm, BLOCK, audit=2.0, monitor=tmp_path / "m.json")
    with pytest.raises(BridgeError, match=r"vb\.load"):
        vb.server_app("tiny", None)
    with pytest.raises(BridgeError, match="port"):
        vb.serve(vlm, None, port=99999)
    with pytest.raises(BridgeError, match=r"cannot listen at 192\.0\.2\.1"):
        vb.serve(vlm, None, host="192.0.2.1")


def test_a_gate_at_which_nothing_stands_is_the_full_model(vlm, asked):
    never = vb.AdaptivePlan((vb.Gate(BLOCK, "margin", math.inf),))
    replies = in_server(vlm, never, lambda client: ask_all(client, asked), settings=PATIENT)
    assert [text_of(reply) for reply in replies] == alone(vlm, asked, None)
    assert {reply.json()["skipit"]["gate"] for reply in replies} == {1}
