"""Generators of images, each with the critic that it learns from."""
