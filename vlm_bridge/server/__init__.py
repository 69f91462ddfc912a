"""A small HTTP server that answers chat requests by a model with a plan."""
