"""Layers: callable graph constructors.  Parameters + operations → symbolic variables."""

from dlmie.layers.convolution import Conv2D
from dlmie.layers.dense import Embedding, Linear
from dlmie.layers.noise import Noise
from dlmie.layers.normalization import BatchNorm, fold_batch_norm
from dlmie.layers.recurrent import LSTM, RNN

__all__ = ["LSTM", "RNN", "BatchNorm", "Conv2D", "Embedding", "Linear", "Noise", "fold_batch_norm"]
