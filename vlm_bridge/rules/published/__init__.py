"""Rules of published methods, one file each."""
