"""Convolution layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from pytensor.graph.basic import Variable

from dlmie.graph import init
from dlmie.graph.network import parameter
from dlmie.ops.conv.conv import conv2d, conv2d_transpose


class Conv2D:
    """2-D cross-correlation with bias.

    Parameters
    ----------
    name : str
        Prefix of the parameters: ``NAME/W`` (filters, channels / groups, height, width) and
        ``NAME/b`` (filters,).
    channels, filters : int
        Channels in and out.
    size : int or (int, int)
        Height and width of the filters.
    stride, padding, dilation, groups
        As for :func:`dlmie.ops.conv.conv.conv2d`.
    W, b : initializer or array
        First values; ``b=None`` for no bias.
    """

    def __init__(
        self,
        name: str,
        channels: int,
        filters: int,
        size: int | tuple[int, int],
        *,
        rng: np.random.Generator,
        stride: int | tuple[int, int] = 1,
        padding: Any = "same",
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        W: Any = None,
        b: Any = 0.0,
        dtype: str = "float32",
    ) -> None:
        height, width = (size, size) if isinstance(size, int) else size
        shape = (filters, channels // groups, height, width)
        start = init.he_normal() if W is None else W
        self.W = parameter(f"{name}/W", init.resolve(start)(rng, shape, dtype), regularizable=True)
        self.b = (
            None if b is None else parameter(f"{name}/b", init.resolve(b)(rng, (filters,), dtype))
        )
        self.options: dict[str, Any] = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
        }

    def __call__(self, x: Variable) -> Variable:
        """x (batch, channels, rows, columns) → (batch, filters, rows', columns')."""
        return conv2d(x, self.W, self.b, **self.options)


class TransposedConv2D:
    """The map that is transposed to a convolution, with bias: from small images to larger ones.

    Each place of the input adds the filters, times its values, to the output: with stride 2, the
    output is twice as high and wide.

    Parameters
    ----------
    name : str
        Prefix of the parameters: ``NAME/W`` (channels, filters, height, width) and ``NAME/b``
        (filters,).
    channels, filters : int
        Channels in and out.
    size : int or (int, int)
        Height and width of the filters.
    stride, padding
        Of the convolution that it is transposed to: what ``padding`` adds there is cut off here.
    W, b : initializer or array
        First values; ``b=None`` for no bias.
    """

    def __init__(
        self,
        name: str,
        channels: int,
        filters: int,
        size: int | tuple[int, int],
        *,
        rng: np.random.Generator,
        stride: int | tuple[int, int] = 1,
        padding: Any = 0,
        W: Any = None,
        b: Any = 0.0,
        dtype: str = "float32",
    ) -> None:
        height, width = (size, size) if isinstance(size, int) else size
        shape = (channels, filters, height, width)
        start = init.he_normal() if W is None else W
        self.W = parameter(f"{name}/W", init.resolve(start)(rng, shape, dtype), regularizable=True)
        self.b = (
            None if b is None else parameter(f"{name}/b", init.resolve(b)(rng, (filters,), dtype))
        )
        self.options: dict[str, Any] = {"stride": stride, "padding": padding}

    def __call__(self, x: Variable) -> Variable:
        """x (batch, channels, rows, columns) → (batch, filters, rows', columns')."""
        return conv2d_transpose(x, self.W, self.b, **self.options)
