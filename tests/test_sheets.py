"""Sample sheets read back, and the strip that shows how a training grew."""

import numpy as np
import pytest
from PIL import Image

from dpsims.errors import InputError
from dpsims.sheets import as_sheet, growth, read_sheet


@pytest.fixture
def run(tmp_path):
    """Sheets of 5 rows and 2 maps, 4 x 6 pixels each; every image of step s is grey value s, maps 200, real 100."""
    (tmp_path / "samples").mkdir()
    for step in (1, 2, 4, 50, 60, 90):
        images = np.full((5, 2, 4, 6, 3), step, np.uint8)
        images[0], images[1], images[3:] = 200, 100, 255
        Image.fromarray(as_sheet(images)).save(tmp_path / "samples" / f"step_{step:07d}.png")
    return tmp_path


def test_a_sheet_is_read_back_image_by_image(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 6, 3), dtype=np.uint8)
    Image.fromarray(as_sheet(images)).save(tmp_path / "sheet.png")
    assert np.array_equal(read_sheet(tmp_path / "sheet.png", 4, 6), images)


def test_growth_shows_maps_then_steps_evenly_in_the_logarithm_then_real_images(run):
    steps, images = growth(run, 4, 6, shots=4)
    assert steps == [1, 4, 50, 90]
    assert images.shape == (len(steps) + 2, 2, 4, 6, 3)
    assert [int(row.max()) for row in images] == [200, *steps, 100]


def test_growth_ends_at_the_step_that_is_shown(run):
    assert growth(run, 4, 6, until=50)[0][-1] == 50


def test_what_is_no_sheet_is_refused(run, tmp_path):
    with pytest.raises(InputError, match="are no sheet of images of 7 x 6"):
        growth(run, 7, 6)
    (tmp_path / "samples" / "step_0000090.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="step_0000090.png: not readable"):
        growth(run, 4, 6)
    with pytest.raises(InputError, match="holds no sample sheets"):
        growth(run / "samples", 4, 6)
