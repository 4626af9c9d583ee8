"""Shared variables whose values stay on the device between calls."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.link.basic import Container
from pytensor.tensor.type import TensorType


class DeviceContainer(Container):
    """The place of a shared variable's value: a JAX array to compiled functions, else NumPy.

    It shares the storage of the container that it replaces, which functions know.  What is read is
    a copy: the array itself is given up by the next function that updates the variable.
    """

    def __init__(self, container: Container) -> None:
        super().__init__(
            container.type,
            container.storage,
            readonly=container.readonly,
            strict=container.strict,
            allow_downcast=container.allow_downcast,
            name=container.name,
        )
        self._write(self.storage[0])

    def _read(self) -> np.ndarray:
        return np.array(self.storage[0])

    def _write(self, value: Any) -> None:
        filtered = self.type.filter(
            np.asarray(value), strict=self.strict, allow_downcast=self.allow_downcast
        )
        # A copy: JAX may else work on the memory of an array that its owner goes on to change.
        self.storage[0] = jax.device_put(np.array(filtered))

    value = property(_read, _write)
    data = value


def keep_on_device(variables: list[SharedVariable]) -> None:
    """Move the values of shared variables to the device, where they stay.

    ``get_value`` gives NumPy arrays as before, and ``set_value`` takes them.  Functions of the C
    backend can no longer use these variables.
    """
    for variable in variables:
        if isinstance(variable.type, TensorType) and not isinstance(
            variable.container, DeviceContainer
        ):
            variable.container = DeviceContainer(variable.container)
