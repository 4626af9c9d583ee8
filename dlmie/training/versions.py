"""Versions of everything that decides a result."""

from __future__ import annotations


def versions() -> dict[str, str]:
    """By name: dlmie, Python and the libraries that compute."""
    import platform
    from importlib.metadata import version

    import dlmie

    names = ("pytensor", "numpy", "scipy", "h5py", "scikit-image", "nltk")
    found = {name: version(name) for name in names}
    return {"dlmie": dlmie.__version__, "python": platform.python_version(), **found}
