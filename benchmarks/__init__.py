"""What is fast and what it costs: each file runs on its own and prints a table, or JSON."""
