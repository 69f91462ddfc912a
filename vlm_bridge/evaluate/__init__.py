"""The full and the skipped model on the same questions: answers, outcomes, certificates."""
