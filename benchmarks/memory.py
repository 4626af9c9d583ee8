"""Rows of ``dlmie bench``: peak memory of whole processes, dlmie's beside PyTorch's."""

from __future__ import annotations

from functools import partial

from benchmarks.processes import output_of
from benchmarks.timing import Entry

# What a process builds; it then runs one side a few times and reports its peak.
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


def peak(work: str) -> Entry:
    """GiB that each needs at most, libraries and data included; ratio: PyTorch's to dlmie's."""
    ours, theirs = (
        float(output_of(RUN.format(work=work, side=side)).split()[-1])
        for side in ("ours", "theirs")
    )
    return {"dlmie_gib": ours, "torch_eager_gib": theirs, "ratio": theirs / ours}


ROWS = {name: partial(peak, work) for name, work in WORK.items()}
