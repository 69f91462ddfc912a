"""The whole path on the reference VLM, and its HTML report."""
