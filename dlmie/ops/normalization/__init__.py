"""Normalization by the statistics of a batch."""
