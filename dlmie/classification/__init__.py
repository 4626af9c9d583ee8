"""Classification: what classifiers are trained for, trained models, and their scores.

What every name here stands for is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from dlmie.classification.evaluation import ClassScores as ClassScores
    from dlmie.classification.evaluation import evaluate as evaluate
    from dlmie.classification.labelling import classify as classify
    from dlmie.classification.model_files import load as load
    from dlmie.classification.model_files import save_model as save_model

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "evaluation": ["ClassScores", "evaluate"],
        "labelling": ["classify"],
        "model_files": ["load", "save_model"],
    },
)
