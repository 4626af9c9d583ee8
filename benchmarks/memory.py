"""Peak memory of whole processes, dlmie's beside PyTorch's at the same work.

python -m benchmarks.memory [NAME ...]
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

from benchmarks.processes import output_of

# What a process makes; it then runs one side a few times and reports its peak.
WORK = {
    "memory_vgg16_training": "from benchmarks.encoders import vgg16_gradients as case",
    "memory_efficientnet_lite0": "from benchmarks.encoders import lite0 as case",
    "memory_show_attend_tell": "from benchmarks.recurrent import attend_steps as case",
}
RUN = """
import resource, sys
{work}
run = case().{side}
for _ in range(3):
    run()
unit = 2**30 if sys.platform == "darwin" else 2**20  # counted in bytes there, elsewhere in KiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
"""


def peak(name: str) -> dict[str, Any]:
    """GiB that each needs at most, libraries and data included; ratio: PyTorch's to dlmie's."""
    ours, theirs = (
        float(output_of(RUN.format(work=WORK[name], side=side)).split()[-1])
        for side in ("ours", "theirs")
    )
    times = dict.fromkeys(("dlmie_s", "torch_eager_s", "torch_channels_last_s", "torch_compile_s"))
    return {
        "name": name,
        **times,
        "dlmie_gib": ours,
        "torch_eager_gib": theirs,
        "ratio": theirs / ours,
        "goal": None,
        "spread": None,
    }


ROWS = {name: partial(peak, name) for name in WORK}

if __name__ == "__main__":
    for name in sys.argv[1:] or ROWS:
        print(json.dumps(ROWS[name]()))
