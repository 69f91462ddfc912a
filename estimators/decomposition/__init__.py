"""Partial information decomposition (PID) of two sources about a target."""
