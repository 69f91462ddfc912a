"""Runs the command line in this process."""

from __future__ import annotations

import pytest

from vlm_bridge import cli


def run(*arguments: object) -> int:
    """The exit code of `skipit ARGUMENTS`."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(a) for a in arguments])
    return int(stopped.value.code or 0)
