"""Networks as named symbolic variables over named parameters."""
