"""Updates of parameters, each in one pass over memory."""
