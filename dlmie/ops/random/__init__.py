"""Random numbers that resume."""
