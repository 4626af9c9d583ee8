"""What dlmie asks of JAX, once in a process; what the user has set stays."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

import jax

from dlmie.errors import CompilerError
from dlmie.ops.runtime.cache import cache_folder

#: The folder beside PyTensor's compiled modules in which XLA's are kept.
FOLDER = "dlmie_xla"


@functools.cache
def configure() -> None:
    """Set up JAX: types as NumPy has them, full precision, compiled code that is kept.

    * 64-bit numbers: keys of noise are 64-bit integers.
    * Matrix products in full float32: GPUs would round their factors to 10 bits (TF32).
    * Only so much GPU memory as is used: others may share the GPU.
    """
    import pytensor.link.jax.dispatch  # sets the first option by its own rules when imported

    del pytensor
    jax.config.update("jax_enable_x64", True)
    if jax.config.jax_default_matmul_precision is None:
        jax.config.update("jax_default_matmul_precision", "highest")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if jax.config.jax_compilation_cache_dir is None:
        with contextlib.suppress(CompilerError):  # then every process compiles anew
            jax.config.update("jax_compilation_cache_dir", str(_own_folder()))


def _own_folder() -> Path:
    """The folder for XLA's modules; never empty, because PyTensor removes empty folders there."""
    folder = cache_folder() / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / "of_xla").touch()
    return folder
