"""Partial information decomposition: what two sources say about a target, alone and together."""
