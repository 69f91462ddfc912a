"""`skipit serve`: a model with a plan behind HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Option

from vlm_bridge.cli.options import ModelOptions
from vlm_bridge.cli.output import note
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.adaptive import AdaptivePlan
from vlm_bridge.plan.provenance import MAX_NEW_TOKENS
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import read_json
from vlm_bridge.server.bodies import Served
from vlm_bridge.server.run import LOOPBACK
from vlm_bridge.server.run import serve as run_serve
from vlm_bridge.server.settings import ServerSettings


def serve(
    model: ModelOptions,
    plan: Annotated[
        str | None,
        Option(
            help="A plan file, an adaptive one too, or a plan in words (default: the full model)."
        ),
    ] = None,
    host: Annotated[str, Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="TCP port; 0: any free one.")] = 8000,
    batch_size: Annotated[int, Option(min=1, help="Most requests answered together.")] = 16,
    wait: Annotated[
        float, Option(min=0, help="Milliseconds that a request waits for others.")
    ] = 10.0,
    queue: Annotated[int, Option(min=1, help="Most requests that wait; others get 503.")] = 64,
    max_tokens: Annotated[
        int, Option(min=1, help="Longest answer that a request may ask for.")
    ] = 1024,
    audit: Annotated[
        float | None,
        Option(help="Share of the greedy requests that the full model answers, too."),
    ] = None,
    monitor: Annotated[
        Path | None,
        Option(help="State of `skipit monitor`, to which audits are added; goes with --audit."),
    ] = None,
    epsilon: Annotated[
        float | None,
        Option(
            help="With --audit: share of changed answers without an alarm; the one that was "
            "certified (default: the monitor's, 0.02 if it is new)."
        ),
    ] = None,
) -> Any:
    """Serve a model, with or without a plan, in the form of the OpenAI chat API.

    POST /v1/chat/completions takes text and images as data: URLs; GET /v1/models names the model
    with the hash of the plan; GET /health says how many requests wait. Replies name the plan and,
    of an adaptive plan, the gate. There is no password, so only this machine reaches the server,
    unless --host says otherwise. Ctrl-C stops it.

    Needs the extra `serve`. docs/serving.md says more.

    Example: `skipit serve reference --plan "freeze layers=10-29"`

    Example: `skipit serve reference --plan out/plan.json --audit 0.01 --monitor out/monitor.json
    --epsilon 0.05`
    """
    settings = ServerSettings(
        batch_size=batch_size,
        wait=wait / 1000,
        queue=queue,
        max_tokens=max_tokens,
        default_tokens=min(MAX_NEW_TOKENS, max_tokens),
    )
    if (audit is None) != (monitor is None) or (epsilon is not None and audit is None):
        raise BridgeError("--audit and --monitor go together, and --epsilon with both")
    found: AdaptivePlan | SkipPlan | None = None
    if plan is not None and _is_adaptive(plan):
        found = AdaptivePlan.read(plan)
        vlm = model.load()
    elif plan is not None:
        vlm, found = model.load_with(plan)
    else:
        vlm = model.load()
    served = Served.of(vlm, found)
    note(f"{served.name}: {served.plan}")
    if host not in LOOPBACK:
        note(f"whoever reaches {host} may ask: there is no password and no encryption")
    run_serve(
        vlm,
        found,
        host=host,
        port=port,
        settings=settings,
        audit=audit,
        monitor=monitor,
        epsilon=epsilon,
        on_listening=lambda url: note(f"listening at {url}; Ctrl-C stops it"),
    )
    return None


def _is_adaptive(plan: str) -> bool:
    """Whether a plan is a file of an adaptive plan."""
    if not Path(plan).suffix == ".json" or not Path(plan).is_file():
        return False
    body = read_json(Path(plan), "plan")
    return isinstance(body, dict) and body.get("type") in ("AdaptivePlan", "CertifiedAdaptive")
