"""Compile the C kernels into what is installed; everything else stands in setup.cfg.

``DLMIE_PREBUILT`` says for which processors: "native" (the default: this one's level), "all" or
names of levels for wheels to hand out, "none" for a wheel that compiles at first use.  Where they
cannot be compiled, they are not: dlmie does it at first use, and says what it lacks.
"""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from dlmie.errors import CompilerError  # noqa: E402
from dlmie.ops.runtime import prebuilt  # noqa: E402

FOLDER = prebuilt.FOLDER.relative_to(HERE)


class BuildWithKernels(build_py):
    """Python files, and the kernel libraries beside them."""

    def run(self) -> None:
        super().run()
        root = HERE if self.editable_mode else Path(self.build_lib)
        levels = prebuilt.chosen()
        if not levels or (self.editable_mode and prebuilt.find()):
            return
        try:
            prebuilt.build(root / FOLDER, levels)
        except CompilerError as error:
            self.warn(f"kernels are not prebuilt, but compiled at first use: {error}")


class MaybeBinary(Distribution):
    """Belongs to one platform, where there are kernels in the wheel."""

    def has_ext_modules(self) -> bool:
        return bool(prebuilt.chosen())


class PlatformWheel(bdist_wheel):
    """For any Python 3 of its platform."""

    def get_tag(self) -> tuple[str, str, str]:
        if self.root_is_pure:
            return super().get_tag()
        return "py3", "none", super().get_tag()[2]


setup(
    distclass=MaybeBinary,
    cmdclass={"build_py": BuildWithKernels, "bdist_wheel": PlatformWheel},
)
