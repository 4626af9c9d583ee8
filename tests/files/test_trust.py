"""Files that others could have written are not trusted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dlmie.files.trust import only_ours


def test_who_may_write_decides(tmp_path: Path) -> None:
    path = tmp_path / "code.so"
    assert not only_ours(path)
    path.touch(0o644)
    assert only_ours(path)
    path.chmod(0o646)
    assert not only_ours(path)
    path.chmod(0o664)
    assert only_ours(path) == (path.stat().st_gid == os.getgid())


def test_who_owns_it_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "code.so"
    path.touch(0o600)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert only_ours(path) == (owner == 0)  # the system's are trusted, another user's are not
