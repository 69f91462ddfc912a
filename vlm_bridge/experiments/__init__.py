"""What is done with the whole toolkit: benchmarks of rules, claims of the paper, the demo."""
