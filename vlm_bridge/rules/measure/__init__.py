"""Measurements of a model on questions that several rules read; `Evidence` makes each once."""
