"""Gradient ascent on images: objectives, optimizers, regularizers, transforms."""
