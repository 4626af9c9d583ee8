"""Pictures made by gradients: of classes, layers and captions, and where a model looked."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if __name__ != "dlmie.visualize":  # a second copy of every class would follow
    raise ImportError("import this package as dlmie.visualize, not as visualize")

if TYPE_CHECKING:
    from dlmie.visualize.ascent.ascend import ascend as ascend
    from dlmie.visualize.attention.maps import attend as attend
    from dlmie.visualize.attribution.activations import grid as grid
    from dlmie.visualize.attribution.faithfulness_curves import faithfulness as faithfulness
    from dlmie.visualize.attribution.maps import saliency as saliency
    from dlmie.visualize.attribution.maps import saliency_rows as saliency_rows
    from dlmie.visualize.figures.figure import Figure as Figure
    from dlmie.visualize.reproduction import redo as redo
    from dlmie.visualize.reproduction import reproduce as reproduce
    from dlmie.visualize.synthesis.adversarial import fool as fool
    from dlmie.visualize.synthesis.class_images import visualize as visualize
    from dlmie.visualize.synthesis.deepdream import dream as dream
    from dlmie.visualize.synthesis.inversion import invert as invert
    from dlmie.visualize.synthesis.style_transfer import stylize as stylize
    from dlmie.visualize.synthesis.style_transfer import texture as texture

# Public names and the module that defines each: PyTensor and matplotlib load when first needed.
_PUBLIC = {
    "Figure": "figures.figure",
    "ascend": "ascent.ascend",
    "attend": "attention.maps",
    "dream": "synthesis.deepdream",
    "faithfulness": "attribution.faithfulness_curves",
    "fool": "synthesis.adversarial",
    "grid": "attribution.activations",
    "invert": "synthesis.inversion",
    "redo": "reproduction",
    "reproduce": "reproduction",
    "saliency": "attribution.maps",
    "saliency_rows": "attribution.maps",
    "stylize": "synthesis.style_transfer",
    "texture": "synthesis.style_transfer",
    "visualize": "synthesis.class_images",
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"dlmie.visualize.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'dlmie.visualize' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
