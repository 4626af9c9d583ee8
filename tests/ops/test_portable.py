"""The kernels with other compilers and narrower vectors: no warning, and the same numbers."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["gcc", "clang", "gcc -mno-avx512f", "gcc -mno-avx"])
def test_kernels_built_otherwise_equal_their_definitions(compiler: str, tmp_path: Path) -> None:
    command, *flags = compiler.split()
    if shutil.which(command) is None:
        pytest.skip(f"{command} is not installed")
    if flags and platform.machine() != "x86_64":
        pytest.skip("flags of x86")
    settings = {"CC": f"{compiler} -Werror", "PYTENSOR_FLAGS": f"base_compiledir={tmp_path}"}
    tests = Path(__file__).with_name("test_ctypes.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-500:]
    assert list(tmp_path.glob("*/libdlmie_*"))  # it was built here, with these flags
