"""From a model's next-word probabilities to captions: pure NumPy over one compiled step.

:func:`greedy`, :func:`sample` and :func:`beam_search` search, :func:`force` follows known words,
:func:`ensemble_step` makes one model of several; :class:`Decoding` holds all choices as one
value that runs the search and names itself in a score's protocol.
"""

from dlmie.captioning.decoding.beam import beam_search
from dlmie.captioning.decoding.constraints import Caption, Constraints, Extras, State, Step
from dlmie.captioning.decoding.ensemble import ensemble_step
from dlmie.captioning.decoding.options import Decoding, DecodingOptions
from dlmie.captioning.decoding.sampling import force, greedy, sample

__all__ = [
    "Caption",
    "Constraints",
    "Decoding",
    "DecodingOptions",
    "Extras",
    "State",
    "Step",
    "beam_search",
    "ensemble_step",
    "force",
    "greedy",
    "sample",
]
