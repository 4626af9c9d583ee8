"""Prepared data sets are written here: images into places that survive ``kill -9``, then text."""

from dlmie.data.captions.writing.writer import KIND, absent, write_captions

__all__ = ["KIND", "absent", "write_captions"]
