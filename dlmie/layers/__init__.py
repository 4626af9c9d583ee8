"""Layers: callable graph constructors.  Parameters + operations → symbolic variables."""

from dlmie.layers.convolution import Conv2D, TransposedConv2D
from dlmie.layers.dense import Embedding, Linear
from dlmie.layers.noise import Dropout, Noise
from dlmie.layers.normalization import BatchNorm, GroupNorm, LayerNorm, fold_batch_norm
from dlmie.layers.recurrent import LSTM, RNN
from dlmie.layers.sequential import Sequential

__all__ = [
    "LSTM",
    "RNN",
    "BatchNorm",
    "Conv2D",
    "Dropout",
    "Embedding",
    "GroupNorm",
    "LayerNorm",
    "Linear",
    "Noise",
    "Sequential",
    "TransposedConv2D",
    "fold_batch_norm",
]
