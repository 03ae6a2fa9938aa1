"""The benchmark measures what it says."""

import json
import subprocess
import sys

import pytest

from dpsims.bench import bench, process_cost
from dpsims.errors import InputError
from dpsims.readme import bench_table


def test_bench_measures_what_it_says(tmp_path):
    out = tmp_path / "bench.json"  # by a process of its own: the peak of its memory is not that of the tests before
    code = f"from dpsims.bench import bench; bench({str(out)!r}, repeats=1, progress=False, processes=False)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
    result = json.loads(out.read_text())
    figures = result["figures"]
    assert figures["training_step_ms"]["median"] > figures["image_64_ms"]["median"] > 0
    assert figures["draw_16_scenes_128_ms"]["median"] > figures["draw_16_scenes_64_ms"]["median"]
    assert 100 < figures["peak_memory_mib"] < 4096, "the issue's limit"
    assert figures["read_256_per_s"]["median"] > figures["read_cut_256_per_s"]["median"] > 100
    assert 0.1 < figures["prepare_ratio"]["median"] < 1.2, "it cannot be faster than a part of it"
    assert figures["prepare_4_times_mib"] < 1.15 * figures["prepare_mib"], "memory does not grow with the data"
    rows = bench_table(result).splitlines()[4:]
    assert len(rows) == len(figures) and not any("_" in row for row in rows), "every figure has words"
    assert sum(" images/s | " in row for row in rows) == 2, "reading, and reading with a cut"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        bench(tmp_path / "file" / "bench.json", repeats=1, progress=False)


@pytest.mark.slow
def test_two_processes_are_compared_with_one(tmp_path):
    found = process_cost(tmp_path / "runs", repeats=2, whole=True)
    assert 0.5 < found["least"] <= found["median"] <= found["most"] < 5, "a step costs about the same, added up"
