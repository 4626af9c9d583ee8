"""Graphs compiled by JAX: its forms of dlmie's operations stand in ``dlmie/ops/*/jax_forms.py``."""
