"""The backend of a process: chosen once, refused where it cannot work, absent unless asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from captioning_cases import make_data, make_network_step

import dlmie
from dlmie.backends.choice import current_backend, length_step, using_backend
from dlmie.errors import DlmieError, MisuseError


def without_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)


def with_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not it is installed."""
    monkeypatch.setattr("dlmie.backends.choice.find_spec", lambda name: name)


def test_c_is_the_backend_unless_another_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with_jax(monkeypatch)
    assert (current_backend(), length_step()) == ("c", 1)
    with using_backend("jax"):
        assert (current_backend(), length_step()) == ("jax", 4)
    assert current_backend() == "c"


def test_without_jax_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without_jax(monkeypatch)
    with pytest.raises(DlmieError, match=r"needs JAX: .* -m pip install 'dlmie\[gpu\]'"):
        dlmie.use_backend("jax")
    with pytest.raises(DlmieError, match="needs JAX"):
        dlmie.function([], [], backend="jax")
    assert current_backend() == "c"


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(MisuseError, match="there is no backend 'cuda': use c or jax"):
        dlmie.use_backend("cuda")


def test_ranks_of_mpi_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with_jax(monkeypatch)
    monkeypatch.setattr("dlmie.backends.choice.launched", lambda: (2, 0))
    with pytest.raises(MisuseError, match="start it without mpiexec"):
        dlmie.use_backend("jax")


def test_fine_tuning_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_jax(monkeypatch)
    data = make_data(tmp_path)
    with using_backend("jax"), pytest.raises(MisuseError, match=r"--finetune.* C backend only"):
        make_network_step(data)


def test_the_c_backend_never_imports_jax() -> None:
    code = (
        "import sys, dlmie, pytensor.tensor as pt; x = pt.fmatrix(); "
        "dlmie.function([x], pt.tanh(x @ x)); import dlmie.training.runs, dlmie.cli.app; "
        "print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
