"""Generation: networks that learn to make images, trained ones, and their scores.

What every name here stands for is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from dlmie.generation.evaluation import GenerationScores as GenerationScores
    from dlmie.generation.evaluation import evaluate as evaluate
    from dlmie.generation.model_files import load as load
    from dlmie.generation.model_files import save_model as save_model
    from dlmie.generation.sampling import animation as animation
    from dlmie.generation.sampling import sample as sample

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "evaluation": ["GenerationScores", "evaluate"],
        "model_files": ["load", "save_model"],
        "sampling": ["animation", "sample"],
    },
)
