"""The painter without a browser: `set_state` and `_receive` are what a message from the browser ends in."""

import io

import numpy as np
import pytest
from PIL import Image

from dpsims.encodings import encoding
from dpsims.errors import InputError
from dpsims.explorer import painter as module
from dpsims.explorer.painter import LabelPainter, read_upload, readings
from dpsims.labels import LabelSpace, label_space

SCENES = label_space("scenes")


@pytest.fixture
def labels():
    return np.arange(64 * 48, dtype=np.uint8).reshape(64, 48) % (SCENES.num_classes + 1)


@pytest.fixture
def painter(labels):
    return LabelPainter(labels, SCENES)


def file_of(array, palette=None, **options):
    image, file = Image.fromarray(array), io.BytesIO()
    if palette is not None:
        image.putpalette(palette)
    image.save(file, **{"format": "PNG"} | options)
    return file.getvalue()


def browser(painter, **state):
    """A message as ipywidgets hands it on: binary values are memory views."""
    painter.set_state({k: memoryview(v) if isinstance(v, bytes) else v for k, v in state.items()})


def test_labels_go_in_and_come_out_as_copies(painter, labels):
    assert painter.labels.dtype == np.uint8 and (painter.labels == labels).all()
    painter.labels[:] = 0
    assert (painter.labels == labels).all()
    painter.labels = labels.astype(np.int64)[::-1]
    assert (painter.labels == labels[::-1]).all()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (np.full((64, 48), 13), "value 13 at row 0"),
        (np.full((64, 48), -1), "value -1"),
        (np.zeros((64, 48)), "float64"),
        (np.zeros((48, 64), np.uint8), r"\(48, 64\)"),
    ],
)
def test_wrong_labels_are_refused(painter, labels, wrong, says):
    with pytest.raises(InputError, match=says):
        painter.labels = wrong
    assert (painter.labels == labels).all()
    if wrong.shape == (64, 48):
        with pytest.raises(InputError, match=says):
            LabelPainter(wrong, SCENES)
    with pytest.raises(InputError, match="one label map"):
        LabelPainter(wrong[None], SCENES)


def test_region(painter):
    assert painter.region.dtype == bool and not painter.region.any()
    mask = np.eye(64, 48, dtype=bool)
    painter.region = mask
    assert (painter.region == mask).all()
    for wrong in (mask.T, mask.astype(np.uint8)):
        with pytest.raises(InputError, match="region"):
            painter.region = wrong


def test_a_stroke_arrives_and_listeners_hear_of_it(painter, labels):
    heard, marked = [], []
    painter.on_paint(heard.append)
    painter.on_region(marked.append)
    painted = labels.copy()
    painted[3, 5:9] = 2
    browser(painter, _labels=painted.tobytes())
    assert (painter.labels == painted).all() and len(heard) == 1 and (heard[0] == painted).all() and not marked
    browser(painter, _region=(painted == 2).astype(np.uint8).tobytes())
    assert (painter.region == (painted == 2)).all() and len(heard) == 1 and (marked[0] == painter.region).all()
    painter.labels = labels
    assert len(heard) == 1, "what Python sets, it knows"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_labels", b"\0" * 10),
        ("_labels", b"\x0d" * (64 * 48)),
        ("_labels", "text"),
        ("_labels", None),
        ("_labels", [1] * (64 * 48)),
        ("_region", b"\2" * (64 * 48)),
        ("_region", b""),
        ("mode", "erase"),
        ("mode", ["paint"]),
        ("picked", 13),
        ("picked", "1"),
        ("picked_at", [64, 0]),
        ("picked_at", [0]),
        ("picked_at", 7),
    ],
)
def test_nonsense_from_the_browser_is_refused_with_a_message(painter, labels, name, value, monkeypatch):
    before, sent, heard = painter.get_state(), [], []
    monkeypatch.setattr(painter, "send_state", lambda key: sent.append(key))
    painter.on_paint(heard.append)
    painter.on_region(heard.append)
    browser(painter, **{name: value})
    assert "not taken" in painter.message and name in sent and not heard
    after = painter.get_state()
    assert {k: v for k, v in after.items() if k != "message"} == {k: v for k, v in before.items() if k != "message"}


def test_the_browser_changes_nothing_else(painter):
    browser(painter, _setup={}, image=b"x", message="fine", _esm="alert()", opacity=0.1)
    assert painter._setup["dataset"] == "scenes" and bytes(painter.image) == b"" and painter.opacity == 0.6
    assert painter.message == "" and "alert()" not in painter._esm


def test_mode_and_pick(painter):
    browser(painter, mode="pick")
    browser(painter, picked=4, picked_at=[63, 47])
    assert (painter.mode, painter.picked, painter.picked_at) == ("pick", 4, [63, 47])


def test_errors_of_a_listener(painter, labels):
    def refuse(_):
        raise InputError("sky: cannot be painted")

    painter.on_paint(refuse)
    browser(painter, _labels=labels.tobytes())
    assert painter.message == "sky: cannot be painted"


def test_text_is_stable(painter):
    assert repr(painter) == "LabelPainter(64 x 48, 12 classes)"


def test_the_same_message_is_sent_again(painter):
    said = []
    painter.observe(lambda change: said.append(change.new), "message")
    painter.tell("no")
    painter.tell("no")
    assert said == ["no", "", "no"]


def test_import_answers_with_ids(painter, labels, monkeypatch):
    sent = []
    monkeypatch.setattr(painter, "send", lambda content, buffers: sent.append((content, buffers)))
    content = file_of(labels[::-1].copy())
    painter._handle_custom_msg({"import": 7, "name": "a.png", "reading": "ids"}, [memoryview(content)])
    [(answer, [ids])] = sent
    assert answer["imported"] == 7 and "a.png" in answer["text"] and ids == labels[::-1].tobytes()
    assert (painter.labels == labels).all(), "the browser takes it as a stroke, and then says so"


@pytest.mark.parametrize(
    ("content", "buffers"),
    [
        ({"import": 1, "name": "a.png", "reading": "ids"}, []),
        ({"import": 1, "name": "a.png", "reading": "ids"}, [b"no png"]),
        ({"import": 1, "name": "a.png", "reading": "ids"}, [b""]),
        ({"import": "x", "name": "a.png", "reading": "ids"}, [b"no png"]),
        ({"import": 1, "name": "a.png", "reading": "spade"}, [b"no png"]),
        ({}, [b""]),
        ([], [b""]),
        (None, []),
    ],
)
def test_a_bad_import_is_a_message(painter, content, buffers, monkeypatch):
    monkeypatch.setattr(painter, "send", lambda *_: pytest.fail("nothing to send"))
    painter._receive(painter, content, buffers)
    assert painter.message and "Traceback" not in painter.message and "/" not in painter.message


def test_uploads_of_ids_and_of_colours(labels):
    size = labels.shape
    colours = SCENES.colourise(labels)
    palette = np.array(SCENES.colours, np.uint8)[::-1].ravel().tolist()
    files = {
        "ids": file_of(labels),
        "ids of 16 bits": file_of(labels.astype(np.uint16)),
        "colours": file_of(colours),
        "opaque": file_of(np.dstack([colours, np.full(size, 255, np.uint8)])),
        "a palette in another order": file_of(SCENES.num_classes - labels, palette),
    }
    for name, content in files.items():
        assert (read_upload(content, name, "ids", SCENES, size) == labels).all(), name


def test_uploads_that_are_refused(labels):
    colours, size = SCENES.colourise(labels), labels.shape
    other = colours.copy()
    other[5, 7] = 1, 2, 3
    clear = np.dstack([colours, np.full(size, 254, np.uint8)])
    for content, says in (
        (file_of(labels[:32]), "32 x 48 pixels .* 64 x 48"),
        (file_of(np.full(size, 13, np.uint8)), "value 13 at row 0"),
        (file_of(other), r"colour \(1, 2, 3\) at row 5, column 7"),
        (file_of(clear), "transparent"),
        (file_of(colours, format="JPEG"), "JPEG"),
        (file_of(labels)[:60], "not a readable image"),
        (file_of(np.zeros(size, bool)), "of 1 bits"),
    ):
        with pytest.raises(InputError, match=f"^map.png: .*{says}"):
            read_upload(content, "map.png", "ids", SCENES, size)


def test_grey_values_are_asked_for_where_they_may_mean_several_things(labels):
    coco = label_space("coco_stuff")
    assert readings(SCENES) == ["ids"] and readings(label_space("ade20k")) == ["ids", "spade"]
    assert readings(coco) == ["", "ids", "raw", "spade"]
    own = LabelSpace("custom", ("void", "a"), ((0, 0, 0), (1, 1, 1)))
    assert readings(own) == ["", "ids"]
    content, size = file_of(encoding("coco_stuff").encode(labels)), labels.shape
    with pytest.raises(InputError, match="choose"):
        read_upload(content, "a.png", "", coco, size)
    assert (read_upload(content, "a.png", "raw", coco, size) == labels).all()
    assert (read_upload(file_of(coco.colourise(labels)), "a.png", "", coco, size) == labels).all(), "colours are clear"
    with pytest.raises(InputError, match="read as"):
        read_upload(file_of(labels), "a.png", "spade", SCENES, size)


def test_nothing_is_loaded_from_elsewhere():
    scripts = [module.Path(module.__file__).with_name(name).read_text() for name in (*module.SCRIPTS, "painter.css")]
    for text in scripts:
        assert "://" not in text and "eval(" not in text and "innerHTML" not in text and "import " not in text
