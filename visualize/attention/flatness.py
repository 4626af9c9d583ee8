"""How even attention is: maps that are nearly even do not show where a captioner looked."""

from __future__ import annotations

import warnings

import numpy as np

_EVEN = 0.95  # attention that uses more of the cells than this, in effect, looks nowhere


class FlatAttention(UserWarning):
    """The maps of a caption are nearly even: they do not say where the captioner looked."""


def entropy(alphas: np.ndarray) -> np.ndarray:
    """Entropy of attention maps (…, rows, columns) in nats: from 0 to the log of the cells.

    Examples
    --------
    >>> float(np.exp(entropy(np.full((2, 3), 1 / 6))).round(6))
    6.0
    """
    p = np.asarray(alphas, dtype=float)
    p = p / p.sum(axis=(-2, -1), keepdims=True)
    return -(p * np.log(np.maximum(p, 1e-300))).sum(axis=(-2, -1)) + 0.0


def warn_if_flat(alphas: np.ndarray) -> None:
    if not len(alphas):
        return
    cells = alphas[0].size
    used = float(np.exp(entropy(alphas)).mean() / cells)
    if cells > 1 and used > _EVEN:
        warnings.warn(
            f"the attention is nearly even: in effect it is on {100 * used:.0f} % of the cells, so "
            "the maps tell little about where the captioner looked (train longer?)",
            FlatAttention,
            stacklevel=3,
        )
    elif len(alphas) > 1 and np.abs(alphas - alphas[0]).sum(axis=(1, 2)).max() < 0.01:
        warnings.warn(
            "the attention is nearly the same for all words: it does not depend on the word",
            FlatAttention,
            stacklevel=3,
        )
