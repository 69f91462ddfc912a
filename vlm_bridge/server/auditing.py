"""Ask the full model, too, for a share of the requests, and add what changed to a monitor."""

from __future__ import annotations

import logging
from pathlib import Path

from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import answer_batch
from vlm_bridge.evaluate.audit import audited
from vlm_bridge.evaluate.monitor import Monitor
from vlm_bridge.model.prompts import collate
from vlm_bridge.model.vlm import VLM
from vlm_bridge.server.job import Answer, Job

_log = logging.getLogger("vlm_bridge.server")


class Auditing:
    """Audits of greedy answers; a drawn answer has no answer of the full model to differ from.

    An audit that fails is logged and ends the auditing, since a monitor assumes that no outcome is
    left out.

    Args:
        vlm: the model.
        path: the file of the `Monitor`.
        share: of the greedy requests that is audited, in (0, 1].
        epsilon: of the `Monitor`.

    Raises:
        BridgeError: as `Monitor`, before any request.
    """

    def __init__(
        self, vlm: VLM, path: str | Path, share: float, epsilon: float | None = None
    ) -> None:
        self._vlm, self._monitor = vlm, Monitor(path, epsilon=epsilon, share=share)
        self.share, self.salt = share, str(self._monitor.state.settings["salt"])
        self.alarm = self._monitor.state.alarm
        self.failure = ""

    def audit(self, job: Job, answer: Answer) -> None:
        """Compare an answer that was given with the full model's, if its request is chosen."""
        request = job.request
        if self.failure or request.sampling is not None:
            return
        if not audited(job.name, self.share, salt=self.salt):
            return
        try:
            with self._vlm.whole():
                batch = collate(self._vlm, [request.item], [0])
                full = answer_batch(self._vlm, batch, max_new_tokens=request.max_tokens)
            rang = self.alarm.rings
            self.alarm = self._monitor.add([(job.name, full.texts[0] != answer.text)]).alarm
        except Exception as error:
            self.failure = f"the audit of {job.name} failed: {error}"
            known = isinstance(error, BridgeError)
            _log.error("%s; no more audits", self.failure, exc_info=None if known else error)
            return
        if self.alarm.rings and not rang:
            _log.warning("%s", self.alarm.sentence())
