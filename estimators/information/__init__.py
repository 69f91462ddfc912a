"""Information of continuous variables from samples: rows in, `Estimate` in nats out."""
