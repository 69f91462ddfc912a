"""Systems of known truth: partial information decompositions."""

from __future__ import annotations

from benchmarks._reliable_system import System

SYSTEMS: tuple[System, ...] = ()
