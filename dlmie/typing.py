"""Types that every layer shares."""

from __future__ import annotations

from typing import Any

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
"""A value that JSON can hold."""

JsonObject = dict[str, Any]
"""A JSON document that was checked where it was read: its values are of the kinds it is read by."""
