"""Captioned images: formats, vocabulary, prepared files, features."""
