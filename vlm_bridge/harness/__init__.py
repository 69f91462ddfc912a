"""A skipped model in the evaluation harnesses of others."""
