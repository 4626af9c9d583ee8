"""Classifiers of images that are trained from their labels."""
