"""Started by `test_evaluation_processes`, as one of several processes or alone: what each of them measures."""

import sys
from pathlib import Path

from dpsims.evaluation.protocol import evaluate_checkpoint
from dpsims.files import write_json
from dpsims.paths import CHECKPOINTS
from dpsims.processes import launched

data, out = map(Path, sys.argv[1:])
with launched() as (processes, device):
    result = evaluate_checkpoint(
        CHECKPOINTS / "scenes-64", data, out / "result.json", device=device, processes=processes, progress=False,
        max_maps=7, batch_size=2, diversity_maps=4, samples_per_map=3,
    )  # fmt: skip
    write_json(out / f"{processes.rank}.json", result)
