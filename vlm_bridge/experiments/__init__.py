"""What is done with the whole toolkit: benchmarks of rules, the paper's claim, the demo."""
