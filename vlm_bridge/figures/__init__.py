"""Pictures of layers, states, prompts and predictions; each a function that returns a figure."""
