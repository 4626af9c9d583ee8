"""The script for GPU machines, on a processor with small sizes."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("jax", reason="needs JAX: pip install dlmie[gpu]")


@pytest.mark.slow
def test_the_numbers_are_those_of_the_c_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import gpu

    gpu.main(["--tiny"])
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(document["rows"]) == 3
    for row in document["rows"].values():
        assert row["per_second"] > 0
        assert row["difference"] < 1e-3
