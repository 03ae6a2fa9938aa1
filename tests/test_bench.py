"""The benchmark measures what it says."""

import json

import pytest

from dpsims.bench import bench
from dpsims.errors import InputError


def test_bench_measures_what_it_says(tmp_path):
    result = bench(tmp_path / "bench.json", repeats=1, progress=False)
    assert json.loads((tmp_path / "bench.json").read_text()) == result
    figures = result["figures"]
    assert figures["training_step_ms"]["median"] > figures["image_64_ms"]["median"] > 0
    assert figures["draw_16_scenes_128_ms"]["median"] > figures["draw_16_scenes_64_ms"]["median"]
    assert 100 < figures["peak_memory_mib"] < 4096, "the issue's limit"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        bench(tmp_path / "file" / "bench.json", repeats=1, progress=False)
