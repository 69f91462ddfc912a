"""Hidden states of a model as it runs: hooks, streaming collectors, profiles."""
