"""Files that others could have written are not trusted."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest

from dlmie.files.trust import only_ours


def test_who_may_write_decides(tmp_path: Path) -> None:
    path = tmp_path / "code.so"
    assert not only_ours(path)
    path.touch(0o644)
    assert only_ours(path)
    path.chmod(0o646)
    assert not only_ours(path)


def test_a_group_may_write_only_where_nobody_else_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "code.so"
    path.touch()
    path.chmod(0o664)
    name = pwd.getpwuid(os.getuid()).pw_name
    for group, members, trusted in (
        (name, [], True),
        (name, [name], True),
        (name, ["somebody"], False),
        ("users", [], False),
    ):
        found = SimpleNamespace(gr_name=group, gr_mem=members)
        monkeypatch.setattr(grp, "getgrgid", lambda _, found=found: found)
        assert only_ours(path) == trusted


def test_who_owns_it_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "code.so"
    path.touch(0o600)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert only_ours(path) == (owner == 0)  # the system's are trusted, another user's are not
