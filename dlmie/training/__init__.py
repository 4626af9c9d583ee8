"""Training that knows no task."""
