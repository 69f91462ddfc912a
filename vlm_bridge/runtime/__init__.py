"""What any long run needs: files, checkpoints, ranks, progress, the machine."""
