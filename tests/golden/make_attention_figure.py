"""Draw the golden attention figure anew: python tests/golden/make_attention_figure.py."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))

from attention_case import golden_figure  # noqa: E402

from dlmie.data.images import save_image  # noqa: E402

save_image(HERE / "attention_figure.png", golden_figure().pixels(dpi=50))
