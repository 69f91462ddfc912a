"""`skipit demo`: every step on the reference VLM, and its HTML report."""
