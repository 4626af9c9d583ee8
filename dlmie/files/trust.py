"""Whether a file may be trusted with code: nobody but this user and the system can write it."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def only_ours(path: Path) -> bool:
    """Whether a file or folder is there, and no other user can change it.

    Its owner is this user or the system's, and others have no right to write; the group only if
    nobody else is in it. A link counts as what it points to.
    """
    try:
        found = path.stat()
    except OSError:
        return False
    if not hasattr(os, "getuid"):
        return True
    if found.st_uid not in (0, os.getuid()) or found.st_mode & stat.S_IWOTH:
        return False
    return not found.st_mode & stat.S_IWGRP or _is_private(found.st_gid)


def _is_private(group: int) -> bool:
    """Whether a group is the user's own by its name, as many systems make one for each user."""
    import grp
    import pwd

    try:
        found, user = grp.getgrgid(group), pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return False
    return found.gr_name == user and set(found.gr_mem) <= {user}
