"""The source of randomness of a training graph."""

from __future__ import annotations

import hashlib

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.errors import DlmieError
from dlmie.ops.random import noise as ops


class Noise:
    """Fresh, reproducible randomness for every call of a compiled training function.

    One shared integer, the key, moves on by one at each call (``dlmie.function`` adds the update);
    all masks are functions of it, so saving the key saves the whole random state.  An expression
    built without a ``Noise`` is deterministic: training and testing are two expressions.

    Parameters
    ----------
    seed : int
        From 0 to 2⁶⁴ - 1; of different ones, runs share no masks.
    streams : bool
        Whether the masks of one key can be drawn from several streams: :meth:`use_stream`.

    Raises
    ------
    DlmieError
        Another seed.
    """

    def __init__(self, seed: int = 0, *, streams: bool = False) -> None:
        self.key = pytensor.shared(np.int64(_first_key(seed)), name="/noise/key")
        self.key.tag.update = self.key + np.int64(1)  # which dlmie.function adds
        self._stream = pytensor.shared(np.int64(0), name="/noise/stream") if streams else None
        self._drawn = self.key if self._stream is None else pt.xor(self.key, self._stream)
        self._uses = 0

    def use_stream(self, number: int) -> None:
        """Draw from stream ``number`` from now on: parts of a batch share no masks.

        Stream 0 is that of a source without streams.
        """
        assert self._stream is not None, "made without streams"
        # Exclusive or with 62 random bits: no two streams meet, and no key overflows.
        self._stream.set_value(np.int64(_random_bits(number) if number else 0))

    def _salt(self) -> int:
        self._uses += 1
        return self._uses

    def dropout(self, x: Variable, rate: float) -> Variable:
        """Inverted dropout of ``x``; at rate 0, ``x`` itself."""
        return ops.dropout(x, rate, self._drawn, self._salt()) if rate else x

    def uniform_like(self, x: Variable) -> Variable:
        """Numbers in [0, 1), shaped like ``x``."""
        return ops.uniform_like(x, self._drawn, self._salt())

    def bernoulli_like(self, x: Variable, probability: float) -> Variable:
        """0 or 1 in the dtype of ``x``; 1 with the given probability."""
        return pt.cast(self.uniform_like(x) < np.asarray(probability, x.type.dtype), x.type.dtype)


def _first_key(seed: int) -> int:
    """Where the keys of a seed begin: 2³² of them are free, and none is negative."""
    if not 0 <= seed < 2**64:
        raise DlmieError(f"the seed must be from 0 to 2**64 - 1, not {seed}")
    if seed < 2**31:
        return seed << 32
    return _random_bits(seed)


def _random_bits(number: int) -> int:
    """62 bits that a number decides."""
    digest = hashlib.sha256(number.to_bytes(8, "little")).digest()
    return int.from_bytes(digest[:8], "little") >> 2


def dropout(x: Variable, rate: float, noise: Noise | None) -> Variable:
    """Dropout in a training expression; ``x`` itself where ``noise`` is None."""
    return x if noise is None else noise.dropout(x, rate)


class Dropout:
    """Keep each activation with a probability, and divide by it: as a layer (Hinton et al. 2012).

    Parameters
    ----------
    keep : float
        The probability, above 0 and at most 1; 1 keeps all. In the terms of other libraries the
        rate of dropout is ``1 - keep``.

    Raises
    ------
    DlmieError
        Another probability.
    """

    def __init__(self, keep: float) -> None:
        if not 0 < keep <= 1:
            raise DlmieError(f"keep is {keep}; it must be above 0 and at most 1 (1: no dropout)")
        self.keep = keep

    def __call__(self, x: Variable) -> Variable:
        """Testing: ``x`` itself."""
        return x

    def train(self, x: Variable, noise: Noise) -> tuple[Variable, list[tuple[Variable, Variable]]]:
        """Training: a fresh mask for every call; there is nothing to update."""
        return noise.dropout(x, 1 - self.keep), []
