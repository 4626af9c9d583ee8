"""Networks that describe what an encoder sees."""
