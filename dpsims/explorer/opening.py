"""From paths to the explorer, for notebook and app: whatever cannot be opened is told in its place."""

import html
from pathlib import Path

import ipywidgets as W

from dpsims import config as configuration
from dpsims.checkpoint import resolve
from dpsims.errors import InputError
from dpsims.explorer.controls import LARGEST
from dpsims.explorer.maps import Maps, PreparedMaps, SceneMaps, check_drawn
from dpsims.explorer.panel import ExplorerPanel
from dpsims.paths import CHECKPOINTS

FIRST = "scenes-64"  # of the shipped checkpoints


def open_explorer(checkpoint: str = "", data_path: str = "", count: int = 200, seed: int = 0) -> W.Widget:
    """The explorer of a checkpoint, beside the shipped ones of the same classes.

    Args:
        checkpoint: an exported model or a run; empty: the shipped scenes-64.
        data_path: prepared data whose held-out maps are offered; empty: held-out scenes.
        count: scenes to choose from.
        seed: of the first image.

    Returns:
        An `ExplorerPanel`; or, where something given cannot be used, a message that says what and why.
    """
    try:
        if not 0 <= seed <= LARGEST:
            raise InputError(f"seed: {seed}; the explorer takes 0 to {LARGEST}")
        chosen = Path(checkpoint) if checkpoint else CHECKPOINTS / FIRST
        dataset = configuration.load(resolve(chosen) / "config.json").data.dataset
        return ExplorerPanel(_checkpoints(chosen, dataset), open_maps(data_path, dataset, count), seed)
    except InputError as error:
        return W.HTML(f"<b>The explorer cannot open.</b><br>{html.escape(str(error))}")


def open_maps(data_path: str, dataset: str, count: int) -> Maps:
    """The held-out maps of prepared data, or `count` held-out scenes where `data_path` is empty.

    Raises:
        InputError: no such data; or none given for a `dataset` that cannot be drawn.
    """
    if data_path:
        return PreparedMaps(data_path)
    check_drawn(dataset)
    return SceneMaps(count)


def _checkpoints(chosen: Path, dataset: str) -> dict[str, Path]:
    """The chosen one first, then the shipped ones of the same data set."""
    found = {chosen.resolve().name: chosen}
    for file in sorted(CHECKPOINTS.glob("*/config.json")):
        folder = file.parent
        if folder.resolve() != chosen.resolve() and _dataset(file) == dataset:
            found[folder.name if folder.name not in found else f"{folder.name} (shipped)"] = folder
    return found


def _dataset(file: Path) -> str | None:
    """That a configuration is for; None where it cannot be read, which is no reason not to open."""
    try:
        return configuration.load(file).data.dataset
    except InputError:
        return None
