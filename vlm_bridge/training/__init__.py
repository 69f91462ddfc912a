"""Training of the reference models; nothing that loads a model imports this."""
