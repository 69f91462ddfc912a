"""One page that says what may be skipped, how that is known and what it costs."""

from __future__ import annotations

from vlm_bridge.report.html import write_report as write_report
