"""The one door to compilation: what it changes, what it leaves alone, how it waits."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from filelock import Timeout

import dlmie
from dlmie import compilation
from dlmie.compilation import get_threads, set_threads
from dlmie.errors import CompilerError
from dlmie.layers.noise import Noise
from dlmie.ops.dense.matmul import MatMul
from dlmie.ops.pool.pool import max_pool
from dlmie.ops.runtime import library
from dlmie.ops.runtime.cache import cache_folder, compile_lock
from dlmie.verbosity import announcing


def test_randomness_moves_on_wherever_it_is_used() -> None:
    ones, x, y = np.ones(4, np.float32), pt.fvector("x"), pt.fvector("y")
    state = pytensor.shared(np.zeros(4, np.float32), name="/state")
    noise = Noise(0)
    functions = [
        dlmie.function([x], noise.dropout(x, 0.5)),
        dlmie.function([x], updates={state: noise.dropout(x, 0.5)}),
        dlmie.function([x], y * 2, givens={y: noise.dropout(x, 0.5)}),
    ]
    for calls, f in enumerate(functions, start=1):
        f(ones)
        assert noise.key.get_value() == calls


def test_an_update_that_is_given_counts() -> None:
    noise, x = Noise(0), pt.fvector("x")
    f = dlmie.function([x], noise.dropout(x, 0.5), updates=[(noise.key, noise.key + 10)])
    f(np.ones(4, np.float32))
    assert noise.key.get_value() == 10


@pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS")  # the user's own graph
def test_the_users_pytensor_stays_as_it_was() -> None:
    before, filters = str(pytensor.config), list(warnings.filters)
    x = pt.fmatrix("x")
    dlmie.function([x], [x @ x, pt.exp(x)])
    assert str(pytensor.config) == before
    assert warnings.filters == filters
    own = pytensor.function([x], x @ x, mode="FAST_COMPILE")
    assert not any(isinstance(n.op, MatMul) for n in own.maker.fgraph.apply_nodes)


def test_importing_dlmie_changes_no_setting() -> None:
    script = """
import pytensor
before = str(pytensor.config)
import dlmie.compilation, dlmie.models.captioners.show_attend_tell, dlmie.captioning.task
assert str(pytensor.config) == before
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_kernels_and_plain_definitions_agree() -> None:
    x, w = pt.ftensor4("x"), pt.fmatrix("w")
    pooled = max_pool(x, 2)
    y = pooled.reshape((pooled.shape[0], -1)) @ w
    outputs = [y, *pytensor.grad((y**2).sum(), [x, w])]
    fast, plain = (dlmie.function([x, w], outputs, kernels=k) for k in (True, False))
    rng = np.random.default_rng(0)
    values = rng.standard_normal((3, 2, 6, 6)), rng.standard_normal((18, 5))
    arrays = [v.astype("f") for v in values]
    for a, b in zip(fast(*arrays), plain(*arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    assert any(isinstance(n.op, MatMul) for n in fast.maker.fgraph.apply_nodes)


def test_kernels_can_be_switched_off_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    x = pt.fmatrix("x")
    monkeypatch.setenv("DLMIE_KERNELS", "0")
    f = dlmie.function([x], x @ x)
    assert not any(isinstance(n.op, MatMul) for n in f.maker.fgraph.apply_nodes)


def test_outputs_may_be_one_several_or_none() -> None:
    x = pt.fscalar("x")
    counter = pytensor.shared(np.float32(0), name="/counter")
    one, several = dlmie.function([x], x + 1), dlmie.function([x], [x + 1])
    none = dlmie.function([x], updates=[(counter, counter + x)])
    assert one(2) == 3
    assert several(2) == [3]
    none(5)
    assert counter.get_value() == 5


def test_without_a_compiler_it_says_what_to_install() -> None:
    x = pt.fscalar("x")
    with (
        pytensor.config.change_flags(cxx=""),
        pytest.raises(CompilerError, match=r"no C/C\+\+ compiler found.*apt install g\+\+"),
    ):
        dlmie.function([x], x + 1)


def test_a_cache_that_cannot_be_written_names_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(CompilerError, match="PYTENSOR_FLAGS=base_compiledir="):
        cache_folder()


def test_profile_and_progress(capfd: pytest.CaptureFixture[str]) -> None:
    x = pt.fvector("x")
    silent = dlmie.function([x], x * 3, name="quiet")
    assert capfd.readouterr().err == ""
    assert silent.profile is None
    f = dlmie.function([x], x * 3, name="three times", profile=True, progress=True)
    f(np.ones(3, np.float32))
    assert capfd.readouterr().err.startswith("compiled three times in ")
    assert f.profile.fct_callcount == 1


def test_waiting_for_the_lock_is_announced(capfd: pytest.CaptureFixture[str]) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with compile_lock():
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    threading.Timer(1.3, done.set).start()
    started = time.monotonic()
    with compile_lock():
        waited = time.monotonic() - started
    thread.join()
    assert waited > 1
    assert "dlmie: waiting for another process that is compiling" in capfd.readouterr().err


def test_a_lock_that_is_held_for_long_is_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    tries: list[int] = []

    def compile(a: int, *, b: int) -> int:
        tries.append(a)
        if len(tries) < 3:
            raise Timeout("/some/.lock")
        return a + b

    assert compilation._patiently(compile, 1, b=2) == 3
    assert capfd.readouterr().err.count("waiting for another process") == 2


def test_threads_can_be_set() -> None:
    before = get_threads()
    try:
        set_threads(1)
        assert get_threads() == 1
        with pytest.raises(ValueError, match="threads must be at least 1, not 0"):
            set_threads(0)
    finally:
        set_threads(before)


@pytest.mark.slow
def test_two_processes_that_compile_at_once_both_finish(tmp_path: Path) -> None:
    script = """
import numpy as np, pytensor.tensor as pt, dlmie
x = pt.fmatrix("x")
f = dlmie.function([x], [(x @ x.T).sum(axis=0), pt.tanh(x) * 3 + x], progress=True)
print(float(f(np.ones((2, 3), np.float32))[0][0]))
"""
    environment = {**os.environ, "PYTENSOR_FLAGS": f"base_compiledir={tmp_path}"}
    where = [sys.executable, "-c", "import pytensor; print(pytensor.config.compiledir)"]
    found = subprocess.run(where, env=environment, capture_output=True, text=True, check=True)
    # The kernels take longest; that they are built once is another matter.
    shutil.copy(library.build(), Path(found.stdout.strip()))
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, **pipes) for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=500)
        assert process.returncode == 0, err
        assert out == "6.0\n"
        assert "compiled graph in" in err


@pytest.mark.parametrize(("patience", "asked"), [(0.0, False), (60.0, False), (60.0, True)])
def test_commands_tell_what_takes_long(
    patience: float, asked: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dlmie.compilation._PATIENCE", patience)
    before = announcing.set(True)
    try:
        dlmie.function([], pt.zeros(3) + 1, name="three ones", progress=asked)
    finally:
        announcing.reset(before)
    said = capfd.readouterr().err
    assert ("compiled three ones in" in said) == (asked or patience == 0.0)
    dlmie.function([], pt.zeros(3) + 2, name="three twos")
    assert capfd.readouterr().err == ""
