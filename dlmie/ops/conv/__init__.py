"""Convolution and the activations that join it."""
