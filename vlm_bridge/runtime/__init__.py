"""Infrastructure of long runs: files, checkpoints, ranks, progress bars, the machine."""
