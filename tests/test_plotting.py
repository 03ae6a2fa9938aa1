"""The figures can be drawn, show what they are given, and nothing in them is cut off."""

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from dpsims import plotting, plotting_ablation, plotting_parts
from dpsims.data import scenes
from dpsims.labels import label_space
from dpsims.notebook import cell, environment, output_folder, palette_png, save_metrics, table
from dpsims.palette import with_palette
from dpsims.plotting_rows import distance_dots
from dpsims.plotting_style import DPI
from dpsims.run_folder import COLUMNS

SPACE = label_space("scenes")
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
ROWS = {
    "real": {"frechet": 0.0, "frechet_interval": [0.0, 0.0], "miou": 0.9},
    "generator": {"frechet": 120.0, "frechet_interval": [90.0, 160.0], "miou": 0.5},
    "other": {"frechet": 1.5, "miou": None},
}
METRICS = {name: [float(i) for i in range(5)] for name in COLUMNS} | {"grad_contrastive": [float("nan")] * 5}
WEIGHTS = RANDOM.random((3, 8, 8)) * 3
WALK = np.array([[1.0, 0.0, 0.0], [0.4, 0.5, 0.1], [0.0, 0.0, 1.0]])
FIGURES = {
    "image_grid": lambda: plotting.image_grid({"a row": IMAGES, "two\nlines": IMAGES[:2]}, ["x", "y"], title="title"),
    "image_grid_legend": lambda: plotting.image_grid({"a row": IMAGES}, legend=SPACE, scale=4),
    "class_frequencies": lambda: plotting.class_frequencies(np.r_[0.0, RANDOM.random(11)], SPACE),
    "paired_bars": lambda: plotting.paired_bars(
        SPACE.names[1:], {"a": RANDOM.random(12), "b": [np.nan] * 12}, "IoU", xlabel="class"
    ),
    "paired_bars_digits": lambda: plotting.paired_bars(
        ["x", "y"], {"a": [1, 2]}, "share, %", digits=0, xlabel="kind", line=("fair", 1)
    ),
    "class_weight_kinds": lambda: plotting.class_weight_kinds({"sqrt": RANDOM.random(13) + 0.1}, SPACE),
    "distance_matrix": lambda: plotting.distance_matrix(
        ["a", "b"], np.array([[0.0, 1.0], [1.0, 0.0]]), "How far", "mood", "L1 distance"
    ),
    "channel_scales": lambda: plotting.channel_scales([RANDOM.random(8)] * 2, [RANDOM.random(8)] * 2, [4, 8]),
    "correlation_grid": lambda: plotting_ablation.correlation_grid({"": {"raw": np.eye(4), "after": np.eye(4)}}),
    "focal_curves": lambda: plotting.focal_curves([0, 2], (0.5, 0.2), lambda p, gamma: -((1 - p) ** gamma) * np.log(p)),
    "training_curves": lambda: plotting.training_curves(METRICS),
    "reference_lines": lambda: plotting.reference_lines(ROWS, ["generator"], {"frechet": "distance", "miou": "mIoU"}),
    "draw_distances": lambda: plotting_parts.draw_distances(np.zeros(4), np.r_[0.1, 0.2, 0.2, 0.5], 0.125),
    "attention_maps": lambda: plotting_parts.attention_maps(
        IMAGES[0], {"4 x 4": WEIGHTS[:, :4, :4], "8 x 8": WEIGHTS}, [[0, 1, 2], [3, 4, 31]]
    ),
    "noise_levels": lambda: plotting_parts.noise_levels(np.arange(3.0), np.arange(3.0), {"gap 1": [0.1, 0.2, 0.3]}),
    "patch_similarities": lambda: plotting_parts.patch_similarities(
        {"Same": np.eye(4), "Other": np.full((4, 4), 0.25)}
    ),
    "diversity_hinge": lambda: plotting_parts.diversity_hinge(
        0.2, lambda ratios: np.maximum(0.2 - ratios, 0), {"this": [0.05, 0.3], "that": [0.0]}
    ),
    "mood_walks": lambda: plotting_parts.mood_walks(
        {"Line": WALK, "Circle": WALK[::-1]}, ["day", "night", "winter"], "share"
    ),
    "distance_dots": lambda: distance_dots(ROWS, ["generator"], {"frechet": "distance", "miou": "mIoU"}),
}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.mark.parametrize("name", FIGURES)
def test_drawn_whole_and_labelled(name):
    before = dict(plt.rcParams)
    figure = FIGURES[name]()
    assert dict(plt.rcParams) == before, "the reader's settings are left alone"
    png = palette_png(figure)
    image = Image.open(io.BytesIO(png))
    assert len(png) < 100_000 and min(image.size) > 40 and image.mode == "P"
    figure.canvas.draw()
    inside = figure.get_tightbbox(figure.canvas.get_renderer())
    assert image.size[0] <= 1200 and inside.width * 100 <= image.size[0] + 2
    if not name.startswith("image_grid"):
        for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
            ticks = [tick.label1 for tick in axis.get_major_ticks()]
            assert axis.get_label_text() or not any(t.get_visible() and t.get_text() for t in ticks), "say what it is"
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert all(title[:1] == title[:1].upper() for title in titles), titles


def test_every_public_figure_is_tested():
    functions = (vars(plotting) | vars(plotting_parts)).items()
    public = {n for n, f in functions if callable(f) and getattr(f, "__wrapped__", None)}
    assert public <= set(FIGURES), public - set(FIGURES)


def test_row_names_end_at_one_place():
    figure = plotting.image_grid({"D says": IMAGES, "D says ": IMAGES})
    assert [text.get_text() for text in figure.axes[0].texts] == ["D says", "D says"]


def test_image_grid_shows_every_pixel():
    figure = plotting.image_grid({"a": IMAGES}, scale=3)
    canvas = figure.axes[0].images[0].get_array()
    assert (canvas[:48:3, :48:3] == IMAGES[0]).all() and (canvas[:48:3, 52:100:3] == IMAGES[1]).all()
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI)
    shown = np.asarray(Image.open(buffer).convert("RGB"))[:48, -152:]  # one screen pixel for one canvas pixel
    assert np.abs(shown.astype(int) - canvas.astype(int)).max() <= 1


def test_stored_label_maps_have_the_colours_of_their_legend():
    """Also those of a class of nine pixels beside many photographs."""
    batch = scenes.render(range(12), 64)
    ids = np.ones((1, 64, 64), np.uint8)
    ids[0, 20:52] = np.arange(1, 33)[:, None] % 13
    ids[ids == SPACE.id_of("sun")] = 1
    ids[0, :3, :3] = SPACE.id_of("sun")
    rows = {"map": SPACE.colourise(ids), "photographs": batch.images[:6], "more": batch.images[6:]}
    for legend in (SPACE, None):
        image = Image.open(io.BytesIO(palette_png(plotting.image_grid(rows, legend=legend)))).convert("RGB")
        colours, counts = np.unique(np.asarray(image).reshape(-1, 3), axis=0, return_counts=True)
        found = {tuple(colour): count for colour, count in zip(colours.tolist(), counts.tolist(), strict=True)}
        assert set(SPACE.colours) <= set(found)
        assert all(found[SPACE.colours[c]] >= 4 * (ids == c).sum() for c in range(13)), "every pixel, twice as large"


def test_palettes_of_any_image():
    plain = Image.fromarray(np.full((2, 3, 3), (12, 34, 56), np.uint8))
    assert with_palette(plain).convert("RGB").tobytes() == plain.tobytes()
    classes = Image.fromarray(SPACE.colourise(np.arange(13, dtype=np.uint8)[None]))
    assert with_palette(classes).convert("RGB").tobytes() == classes.tobytes()
    noise = Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    packed = with_palette(noise)
    assert packed.mode == "P" and packed.size == (64, 64)
    change = np.abs(np.asarray(packed.convert("RGB")).astype(int) - np.asarray(noise))
    assert 0 < change.mean() < 20


def test_reference_lines_show_values_and_skip_missing_ones():
    figure = FIGURES["reference_lines"]()
    assert [t.get_text() for t in figure.axes[0].texts] == ["0.0", "120", "1.5"]
    assert [t.get_text() for t in figure.axes[1].texts] == ["0.90", "0.50"]


def test_distance_dots_show_intervals_and_what_a_logarithm_lacks():
    panel, other = FIGURES["distance_dots"]().axes
    assert panel.get_xscale() == "log" and [t.get_text() for t in panel.texts] == ["0"]
    drawn = [line.get_xdata().tolist() for line in panel.lines]
    assert drawn == [[90.0, 160.0], [120.0], [1.5]]
    assert len(other.lines) == 2 and not other.texts, "a missing value is left out, and so is a missing interval"


def test_draw_distances_show_every_pair_once():
    (axes,) = FIGURES["draw_distances"]().axes
    tops = [bar.get_y() + bar.get_height() for bar in axes.patches]
    first, *others = axes.patches[: len(tops) // 2]
    assert first.get_height() == pytest.approx(50) and not any(bar.get_height() for bar in others), "half are equal"
    assert sum(bar.get_height() for bar in axes.patches) == pytest.approx(100)
    assert axes.get_xlim()[1] >= 0.5 and axes.get_ylim()[1] >= max(tops)
    assert [line.get_xdata()[0] for line in axes.lines] == [0.125]


def test_attention_maps_share_one_scale_in_which_even_is_white():
    figure = FIGURES["attention_maps"]()
    *panels, bar = figure.axes
    assert len(panels) == 2 * (1 + 3) and bar.get_ylabel() == "weight / even share"
    maps = [panel.images[0] for panel in panels if panel.images[0].get_array().ndim == 2]
    assert [m.get_array().shape for m in maps] == [(4, 4)] * 3 + [(8, 8)] * 3
    assert len({id(m.norm) for m in maps}) == 1 and maps[0].norm(1.0) == 0.5
    assert maps[0].norm.vmin == 0 and maps[0].norm.vmax >= WEIGHTS.max(), "nothing is beyond the scale"
    assert panels[-1].get_title(loc="left") == "Head 3, token 31"


def test_noise_levels_start_at_the_first_step():
    left, right = FIGURES["noise_levels"]().axes
    assert left.lines[0].get_ydata().tolist() == [0.0, 1.0, 2.0]
    assert right.lines[0].get_xdata().tolist() == [1, 2, 3] and right.get_ylim()[0] == 0


def test_patch_similarities_share_one_scale():
    first, second, bar = FIGURES["patch_similarities"]().axes
    assert first.images[0].get_clim() == second.images[0].get_clim() == (0, 1)
    assert first.get_title(loc="left") == "Same" and bar.get_ylabel()
    assert [panel.lines[0].get_xydata().tolist() for panel in (first, second)] == [[[i, i] for i in range(4)]] * 2
    assert len(first.figure.legends) == 1, "which says what the rings are"


def test_diversity_hinge_has_every_pair_on_the_curve_and_in_sight():
    (axes,) = FIGURES["diversity_hinge"]().axes
    dots = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert [d.get_xdata().tolist() for d in dots] == [[0.05, 0.3], [0.0]]
    assert [d.get_ydata().tolist() for d in dots] == [pytest.approx([0.15, 0.0]), pytest.approx([0.2])]
    assert axes.get_xlim()[1] > 0.3 and axes.get_ylim()[1] > 0.2


def test_mood_walks_fill_each_panel_and_name_every_mood():
    figure = FIGURES["mood_walks"]()
    assert len(figure.axes) == 2
    for axes in figure.axes:
        assert len(axes.collections) == 3 and axes.get_xlim() == (0, 1)
        assert max(path.vertices[:, 1].max() for c in axes.collections for path in c.get_paths()) == pytest.approx(1)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["winter", "night", "day"]
    written = [(t.get_text(), *np.round(t.get_position(), 2).tolist()) for t in figure.axes[0].texts]
    assert written == [("day", 0.0, 0.5), ("winter", 1.0, 0.5)], "the names stand where a mood has the walk to itself"


def test_table_and_cells():
    assert [cell(v) for v in (1234, 0.12345, 123.4, float("nan"), None, True, 0.0, 2.0, "x")] == [
        "1,234", "0.12", "123", "–", "–", "yes", "0", "2.0", "x"
    ]  # fmt: skip
    assert table({"a": [1, 0.5]}, ["n", "p"], corner="row").data == "| row | n | p |\n|:--|--:|--:|\n| a | 1 | 0.50 |"


def test_environment_names_seeds_versions_and_the_cpu():
    lines = dict(line.strip("| ").split(" | ") for line in environment(seed=3, other=5).data.splitlines()[2:])
    assert lines["seed"] == "3" and lines["other"] == "5" and lines["threads"].isdigit()
    assert {"commit", "torch", "timm", "numpy", "python"} <= lines.keys() and lines["CPU"].endswith(" cores")


def test_output_folder_and_metrics(tmp_path):
    folder = output_folder(str(tmp_path / "a/b"), "any")
    save_metrics(folder / "metrics.json", {"x": 1})
    assert (folder / "metrics.json").read_text().strip().startswith("{") and folder == tmp_path / "a/b"
    assert [p.name for p in folder.iterdir()] == ["metrics.json"], "no temporary file is left"
