"""The box drawings say what the networks are, and nothing in them runs out of its box."""

import matplotlib
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from dpsims import plotting_schematic
from dpsims.config import override
from dpsims.presets import preset
from dpsims.synthesis import build_discriminator, build_generator


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def assert_text_stays_in_its_box(figure):
    figure.canvas.draw()
    boxes = [p.get_window_extent() for p in figure.axes[0].patches if isinstance(p, FancyBboxPatch)]
    page = figure.bbox
    for text in figure.axes[0].texts:
        place = text.get_window_extent()
        assert page.x0 <= place.x0 and place.x1 <= page.x1, text
        around = [box for box in boxes if box.x0 <= sum(place.intervalx) / 2 <= box.x1 and box.y0 <= place.y0 <= box.y1]
        assert all(box.x0 <= place.x0 and place.x1 <= box.x1 and place.y1 <= box.y1 for box in around), text


@pytest.mark.parametrize(("finest", "hearing"), [(64, 5), (16, 3)])
def test_generator_noise_enters_where_it_is_built(finest, hearing):
    config = override(preset("scenes64"), [f"generator.noise_max_size={finest}"])
    figure = plotting_schematic.generator_schematic(build_generator(config, folded=False))
    shown = texts(figure)
    assert sum("cross-attention" in text for text in shown) == hearing
    assert sum("self-attention" in text for text in shown) == 3  # at 4, 8 and 16
    assert "block: 64$\\times$64\n24 channels" in shown and "noise $z$, 32 tokens\nmapping $M$" in shown
    assert_text_stays_in_its_box(figure)


@pytest.mark.parametrize(
    ("stride", "levels", "finest"),
    [
        (4, 4, "stride 4: 16$\\times$16\n32 channels"),
        (2, 5, "stride 2: 32$\\times$32\n64 channels"),
        (1, 5, "pixels: 32$\\times$32\n12 channels"),
    ],
)
def test_discriminator_shows_the_levels_it_gets(stride, levels, finest):
    config = override(preset("scenes64"), [f"discriminator.finest_stride={stride}"])
    figure = plotting_schematic.discriminator_schematic(build_discriminator(config), 64)
    shown = texts(figure)
    assert sum("squash" in text for text in shown) == levels and finest in shown
    assert "12 classes + fake\nfor every pixel" in shown and any("frozen" in text for text in shown)
    assert_text_stays_in_its_box(figure)


def test_an_encoder_that_is_trained_is_not_called_frozen():
    config = override(preset("scenes64"), ["discriminator.frozen=false"])
    shown = texts(plotting_schematic.discriminator_schematic(build_discriminator(config), 64))
    assert not any("frozen" in text for text in shown) and any("trained with the rest" in text for text in shown)
