"""Whether two computations agree: by elements, and by the norm of their difference.

Float32 results of two libraries differ in the last digits.  In a max pool such a difference may
decide which of two nearly equal inputs is the maximum, and then the gradient of that output goes to
another element.  PyTorch's own two memory layouts gave gradients of images through VGG-16 that
differed by 4 % of the largest element, in 7 % of the elements, and by 0.7 % in norm.  One element
therefore proves nothing there; a wrong kernel changes many elements or much of the norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlmie.errors import DlmieError

Result = npt.ArrayLike | Sequence[npt.ArrayLike]


class Disagreement(DlmieError):
    """Two computations that should give the same numbers do not."""


@dataclass(frozen=True)
class Tolerance:
    """How closely a result must agree with the expected one.

    Parameters
    ----------
    element : float
        An element agrees if it differs by at most so much of the expected array's root mean square.
    norm : float
        The largest norm of the difference, as a fraction of the expected array's norm.
    share : float
        The least share of elements that agree.
    """

    element: float = 1e-2
    norm: float = 1e-3
    share: float = 1.0


EVERY_ELEMENT = Tolerance()
#: For gradients through max pools, with room above what PyTorch's layouts differ by.
THROUGH_MAX_POOLS = Tolerance(element=1e-2, norm=2e-2, share=0.85)


@dataclass(frozen=True)
class Agreement:
    """The least share of elements that agree, and the largest relative norm, of all arrays."""

    share: float
    norm: float
    tolerance: Tolerance

    def entry(self) -> dict[str, dict[str, float]]:
        """The field of the row's entry: both measures, each with its limit."""
        return {
            "agreement": {
                "share": self.share,
                "share_min": self.tolerance.share,
                "element_tolerance": self.tolerance.element,
                "norm": self.norm,
                "norm_max": self.tolerance.norm,
            }
        }


def agree(
    result: Result, expected: Result, tolerance: Tolerance, what: str = "dlmie and PyTorch"
) -> Agreement:
    """Compare two results, each an array or a list of arrays.

    Raises
    ------
    Disagreement
        The shapes differ, too few elements agree, or the norm of the difference is too large.
    """
    ours, theirs = _arrays(result), _arrays(expected)
    shapes = [a.shape for a in ours], [a.shape for a in theirs]
    if shapes[0] != shapes[1]:
        raise Disagreement(f"{what} differ in shape: {shapes[0]} and {shapes[1]}")
    pairs = list(zip(ours, theirs, strict=True))
    found = Agreement(
        min(_share(a, b, tolerance.element) for a, b in pairs),
        max((_norm(a, b) for a, b in pairs), key=lambda norm: math.inf if norm != norm else norm),
        tolerance,
    )
    if not (found.share >= tolerance.share and found.norm <= tolerance.norm):
        raise Disagreement(
            f"{what} differ: {100 * found.share:.2f} % of the elements are within "
            f"{tolerance.element:g} of the root mean square (wanted: {100 * tolerance.share:g} %), "
            f"and the difference has {found.norm:.1e} of the norm (at most {tolerance.norm:g})"
        )
    return found


def _arrays(result: Result) -> list[npt.NDArray[np.float64]]:
    every = result if isinstance(result, list | tuple) else [result]
    return [np.asarray(one, dtype=np.float64) for one in every]


def _share(value: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64], limit: float) -> float:
    scale = np.sqrt(np.mean(np.square(wanted)))
    return float(np.mean(np.abs(value - wanted) <= limit * scale))


def _norm(value: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> float:
    difference, norm = (float(np.linalg.norm(a)) for a in (value - wanted, wanted))
    if norm > 0 or math.isnan(norm):
        return difference / norm
    return 0.0 if difference == 0 else math.inf
