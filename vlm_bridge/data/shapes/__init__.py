"""Shapes of a question as people store them; one reader for each."""
