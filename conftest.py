"""For every test and every notebook kernel: one CPU configuration, no network, and `slow` only on request."""

import os

import pytest

# Set before anything imports torch; notebook kernels inherit them. The committed outputs were made so (make refresh).
os.environ.update(CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="2", HF_HUB_OFFLINE="1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads sleep: on a busy machine three times as fast


def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):  # nbval's notebook: bars and warnings go to stderr and carry times
        collector.skip_compare += ("stderr",)


def pytest_collection_modifyitems(items):
    for item in items:
        if hasattr(
            item, "output_timeout"
        ):  # nbval's, for messages after a cell has ended: 5 s are short on a busy machine
            item.output_timeout = 60
    if os.environ.get("SLOW") == "1":
        return
    skip = pytest.mark.skip(reason="slow; run with SLOW=1")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)
