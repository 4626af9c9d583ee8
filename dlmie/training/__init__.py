"""Training that knows no task: objectives, steps, the loop, runs."""
