"""Figures of layers, states and predictions, written as PNG files."""
