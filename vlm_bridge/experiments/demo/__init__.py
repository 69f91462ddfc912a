"""The demo: one model from profile to report."""
