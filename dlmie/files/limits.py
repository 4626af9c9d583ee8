"""What a file may claim: sizes that its bytes can back."""

from __future__ import annotations

from dlmie.errors import DlmieError

# Weights and features hardly compress: a file that claims far more than it holds is a bomb.
MAX_EXPANSION = 64
ALWAYS_ALLOWED = 256 * 2**20  # bytes


def check_declared(declared: int, size: int, error: type[DlmieError], where: str = "") -> None:
    """Refuse a compressed file of ``size`` bytes whose arrays claim to fill ``declared`` bytes."""
    if declared > MAX_EXPANSION * size + ALWAYS_ALLOWED:
        raise error(
            f"{where}declares {declared:,} bytes of arrays in a file of {size:,} bytes; refused"
        )
