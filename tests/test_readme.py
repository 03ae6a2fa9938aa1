"""README.md, its figures and the model cards are what the files say, and a stale one is found."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

matplotlib.use("Agg")

from dpsims import config as configuration
from dpsims import gallery, model_card, presets, readme, readme_claim
from dpsims.data import scenes
from dpsims.data.loader import to_uint8
from dpsims.errors import InputError
from dpsims.evaluation import report
from dpsims.evaluation.segmenter import load_evaluator
from dpsims.files import sha256
from dpsims.labels import label_space
from dpsims.paths import CHECKPOINTS, DATA, EVALUATORS, ROOT
from dpsims.synthesis import load_generator

SHIPPED = CHECKPOINTS / readme.SHOWN
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Copies of all that is read and written, in place of the repository's."""
    shutil.copytree(CHECKPOINTS, tmp_path / "checkpoints")
    shutil.copytree(DATA / "results", tmp_path / "results")
    shutil.copy(ROOT / "README.md", tmp_path)
    monkeypatch.setattr(readme, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(readme, "DATA", tmp_path)
    monkeypatch.setattr(readme_claim, "DATA", tmp_path)
    return tmp_path


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_everything_is_up_to_date():
    assert readme.main(["--check"]) == 0, "run: python -m dpsims.readme"


def test_checking_needs_no_torch():
    code = "import sys; from dpsims import readme; print(readme.main(['--check']), 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert said.stdout.split()[1:] == ["False"], said.stdout + said.stderr


def test_a_copy_is_up_to_date_and_other_weights_make_its_figures_stale(copy, capsys):
    assert readme.stale(copy / "README.md") == []
    with (copy / "checkpoints" / SHIPPED.name / "generator.safetensors").open("ab") as file:
        file.write(b" ")
    found = {file.name for file in readme.stale(copy / "README.md")}
    assert set(readme.FIGURES) <= found and readme.main(["--check"], copy / "README.md") == 1
    assert "out of date: " in (said := capsys.readouterr().err) and "hero.png" in said


def test_what_was_seen_in_other_weights_is_marked_to_be_checked_again(copy, capsys):
    file = copy / "results" / "faults.md"
    file.write_text(f"<!-- generator {readme.made_of()['generator'][:12]} -->\n- crooked trees\n")
    assert readme.faults() == "- crooked trees"
    file.write_text("<!-- generator 0123456789ab -->\n- crooked trees\n")
    assert readme.main([], copy / "README.md") == 0 and "faults.md: look at hero.png" in capsys.readouterr().err
    assert f"*{readme.AGAIN}*\n\n- crooked trees" in (copy / "README.md").read_text()


@pytest.mark.parametrize("damage", ["missing", "silent", "not a picture"])
def test_a_figure_that_does_not_say_what_it_is_made_of_is_stale(copy, damage):
    file = copy / "results" / "hero.png"
    if damage == "missing":
        file.unlink()
    elif damage == "silent":
        Image.new("RGB", (8, 8)).save(file)
    else:
        file.write_text("no PNG")
    assert file in readme.stale(copy / "README.md")


def test_stale_texts_are_found_and_written(copy):
    text, card = copy / "README.md", copy / "checkpoints" / SHIPPED.name / "README.md"
    bench = json.loads((copy / "results" / "bench.json").read_text())
    change(copy / "results" / "bench.json", figures=bench["figures"] | {"peak_memory_mib": 987654})
    assert readme.stale(text) == [text]
    card.unlink()
    assert readme.stale(text) == [text, card]
    assert readme.main([], text) == 0 and readme.stale(text) == []
    assert "987654" in text.read_text() and card.is_file()
    assert text.read_text().partition("<!-- hero")[0] == README.partition("<!-- hero")[0], "the rest is left alone"


def test_a_readme_without_marks_and_a_checkpoint_without_weights_are_bad_input(copy, capsys):
    (copy / "README.md").write_text(README.replace("<!-- gallery: end -->", ""))
    assert readme.main(["--check"], copy / "README.md") == 2 and "gallery: end" in capsys.readouterr().err
    (copy / "checkpoints" / SHIPPED.name / "generator.safetensors").unlink()
    assert readme.main([], copy / "README.md") == 2 and "generator.safetensors" in capsys.readouterr().err


def test_nothing_shipped_makes_no_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(readme, "DATA", tmp_path)
    monkeypatch.setattr(readme_claim, "DATA", tmp_path)
    assert readme.results() == readme.hero() == readme.gallery() == readme.faults() == ""


@pytest.mark.parametrize("marks", [[], [0], [1, 0]], ids=["none", "no end", "end first"])
def test_a_readme_without_its_marks_is_left_alone(copy, capsys, marks):
    others = [mark for block in ("hero", "gallery") for mark in readme.marks(block)]
    text = "\n".join([*others, *(readme.marks("results")[number] for number in marks), "b\n"])
    (copy / "README.md").write_text(text)
    assert readme.main([], copy / "README.md") == 2 and (copy / "README.md").read_text() == text
    assert (said := capsys.readouterr().err).count("\n") == 1 and "results: begin" in said


@pytest.mark.parametrize("argument", ["--chek", "now"])
def test_unknown_arguments_are_told(argument):
    with pytest.raises(SystemExit):
        readme.main([argument])


@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_a_damaged_evaluation_is_named(copy, content):
    (copy / "checkpoints" / SHIPPED.name / "evaluation.json").write_text(content)
    with pytest.raises(InputError, match="evaluation.json: not usable"):
        readme.results()
    with pytest.raises(InputError, match="no model card"):
        model_card.card(copy / "checkpoints" / SHIPPED.name)


def test_an_evaluation_without_references_is_enough(copy):
    folder = copy / "checkpoints" / SHIPPED.name
    for other in (f for f in folder.parent.iterdir() if f != folder):
        shutil.rmtree(other)
    change(folder / "evaluation.json", references=None)
    for text in (readme.results(), model_card.card(folder)):
        assert "`redrawn`" not in text and "**missed**" not in text
    assert f"**{SHIPPED.name}**" in readme.results()


@pytest.mark.parametrize("name", readme.FIGURES)
def test_figures_are_small_and_their_words_name_their_seeds(name):
    facts = readme.figure_facts(name)
    assert (DATA / "results" / name).stat().st_size < 300_000
    assert facts["made_of"]["generator"] == sha256(SHIPPED / "generator.safetensors")
    words = readme.BLOCKS[name.removesuffix(".png")]()
    for mood, seed in facts.get("walk", facts["seeds"]).items():
        assert f"seed {seed} ({mood})" in words
    assert re.match(r"!\[[^\]]{40,}\]\(data/results/", words), "text for those who do not see it"


def test_the_hero_has_its_maps_real_images_and_moods():
    """Pixels, as far as 256 colours keep them; and the evaluation network sees the moods that the rows name."""
    facts = readme.figure_facts("hero.png")
    assert facts["rows"][:2] == ["label map", "real image"] and len(facts["rows"]) == 2 + len(facts["seeds"])
    generator, evaluator = load_generator(SHIPPED), load_evaluator(EVALUATORS / SHIPPED.name)
    seed = generator.config.data.seed
    batch = scenes.render(gallery.held_out(gallery.HERO_MAPS, seed), generator.size, seed=seed, split="val")
    assert set(batch.layouts) == set(range(len(scenes.LAYOUTS))), "a map of every layout"
    ids = torch.from_numpy(batch.labels.astype(np.int64))
    rows = [label_space("scenes").colourise(batch.labels), batch.images]
    for mood, number in facts["seeds"].items():
        images = generator(ids, [number] * len(ids))
        share = evaluator.judge(torch.from_numpy(to_uint8(images)).permute(0, 3, 1, 2)).moods.softmax(1).mean(0)
        assert evaluator.moods[int(share.argmax())] == mood
        rows.append(to_uint8(images))
    with Image.open(DATA / "results" / "hero.png") as file:
        picture = np.asarray(file.convert("RGB")).astype(int)
    scale = gallery._scale(generator)
    height, width = (scale * side for side in generator.size)
    left = picture.shape[1] - (len(ids) * (width + 4) - 4)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            y, x = r * (height + 4), left + c * (width + 4)
            shown = picture[y : y + height : scale, x : x + width : scale]
            assert np.abs(shown - image).mean() < 12, f"row {facts['rows'][r]!r}, column {c}"


class Stand:
    """A generator whose images are seed / 10 all over, and an evaluation network to which that is a mood."""

    moods = ("dark", "middle", "bright")

    def __call__(self, labels, seeds):
        return torch.tensor(seeds).view(-1, 1, 1, 1).expand(-1, 3, *labels.shape[1:]) / 10

    def judge(self, images):
        level = (images.float().mean((1, 2, 3)) / 127.5 - 1)[:, None]  # of seeds 0 to 3: 0 to 0.3
        return SimpleNamespace(moods=-400 * (level - torch.tensor([[0.0, 0.28, 0.9]])) ** 2)


def test_the_seed_of_a_mood_is_the_surest_and_moods_that_no_seed_gives_are_left_out():
    chosen = gallery.seeds_of_moods(Stand(), Stand(), np.ones((2, 8, 8), np.uint8), candidates=4)
    assert chosen.seeds == {"dark": 0, "middle": 3} and min(chosen.sureness.values()) > 0.9


def test_the_model_card_says_what_its_files_say(copy):
    folder = copy / "checkpoints" / SHIPPED.name
    facts = json.loads((folder / "provenance.json").read_text())
    text = model_card.card(folder)
    for value in (facts["commit"], f"{facts['step']:,}", model_card.duration(facts["seconds"]), facts["hardware"]):
        assert str(value) in text
    row = json.loads((folder / "evaluation.json").read_text())["generator"]
    for figure in (f"{row['frechet']:.1f}", f"{row['miou']:.3f}", f"{row['diversity_l1']:.3f}"):
        assert figure in text
    assert all(f"{mood} {share:.1%}" in text for mood, share in row["mood_shares"].items())
    change(folder / "provenance.json", commit="c0ffee", seed=77, seconds=9000, hardware="an abacus", notes="by hand")
    text = model_card.card(folder)
    for said in ("`c0ffee`", "| seed | 77 |", "| time | 2.5 hours |", "| hardware | an abacus, ", "Note: by hand."):
        assert said in text
    change(folder / "provenance.json", seconds="long")
    with pytest.raises(InputError, match="no model card"):
        model_card.card(folder)


def test_the_model_card_names_departures_from_the_paper(copy):
    folder = copy / "checkpoints" / SHIPPED.name
    shipped = configuration.load(folder / "config.json")
    changes = ["discriminator.finest_stride=1", "loss.lambda_contrastive=3", "loss.focal_gamma=0"]
    configuration.override(shipped, changes).save(folder / "config.json")
    text = model_card.card(folder)
    assert "| `discriminator.finest_stride` | 1 |" in text and "| `loss.focal_gamma` | 0.0 | a focal loss |" in text
    assert "a patch contrastive loss; here" not in text, "it has one now"


def test_every_setting_has_the_words_of_the_configuration():
    words = model_card.comments()
    assert words.keys() == configuration.Config().flat().keys()
    assert words["generator.noise_tokens"].endswith("number default") and words["discriminator.frozen"]


OTHERS = ["train.seed=3", "discriminator.channels=8,8,8,8,8,8", "data.flip=false", "train.lr_generator=2e-5"]


@pytest.mark.parametrize("settings", [[], OTHERS], ids=["as it is", "changed"])
@pytest.mark.parametrize("name", presets.PRESETS)
def test_the_training_command_gives_the_configuration(name, settings):
    wanted = configuration.override(presets.preset(name), settings)
    words = model_card.training_command(wanted).split()
    given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert configuration.override(presets.preset(words[words.index("--preset") + 1]), given) == wanted
    assert len(given) <= len(settings)


REFERENCES = {
    "real": {"miou": 0.9, "iou": {"sky": 0.9, "road": 0.8, "sun": 0.5}},
    "blur_3x3": {"frechet": 50.0},
    "redrawn": {"diversity_l1": 0.2},
}
GOOD = {"frechet": 25.0, "miou": 0.8, "diversity_l1": 0.22, "mood_shares": {"day": 0.3, "night": 0.08},
        "iou": {"sky": 0.8, "road": 0.4, "sun": 0.3}}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "missed", "found"),
    [
        ({}, None, "25.0 of 50.0: 0.50"),
        ({"frechet": 26.0}, 0, "26.0 of 50.0: 0.52"),
        ({"miou": 0.7}, 1, "0.700 of 0.900: 0.78"),
        ({"mood_shares": {"day": 0.31, "night": 0.07}}, 2, "day 31.0%, night 7.0%"),
        ({"diversity_l1": 0.15}, 3, "0.150 of 0.200: 0.75"),
        ({"diversity_l1": 0.25}, 3, "0.250 of 0.200: 1.25"),
    ],
)
def test_gates_are_met_or_missed_by_the_numbers(change, missed, found):
    gates = report.gates(GOOD | change, REFERENCES)
    assert [number for number, gate in enumerate(gates) if not gate.met] == ([] if missed is None else [missed])
    assert gates[missed or 0].found == found
    table = report.gate_table(GOOD | change, REFERENCES)
    assert f"{3 if missed is not None else 4} are met" in table and table.count("**missed**") == (missed is not None)


def test_the_weakest_classes_are_those_furthest_behind_real_ones():
    assert report.weakest_classes(GOOD, REFERENCES, 2) == "road (IoU 0.40, real 0.80), sun (IoU 0.30, real 0.50)"
    assert report.weakest_classes({"miou": 0.5}, {"real": {}}) == ""


def test_files_and_folders_that_the_readme_names_are_there():
    named = set(re.findall(r"`((?:dpsims|data|notebooks)/[\w./-]+)`", README))
    named |= set(re.findall(r"\]\(((?:data|dpsims)/[^)#]+)\)", README))
    assert len(named) > 20
    assert not [path for path in sorted(named) if not (ROOT / path).exists()]


def test_settings_that_the_readme_names_exist_and_every_model_file_has_its_part():
    known = configuration.Config().flat()
    named = re.findall(r"`((?:data|discriminator|generator|loss|train)\.\w+)(?:=\w+)?`", README)
    assert len(named) >= 4 and not set(named) - known.keys()
    files = {file.relative_to(ROOT).as_posix() for file in (ROOT / "dpsims" / "models").glob("[!_]*.py")}
    assert not [file for file in sorted(files) if f"`{file}`" not in README]


def test_the_installation_by_hand_is_that_of_the_makefile():
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert f"torch=={pinned['torch']} torchvision=={pinned['torchvision']} --index-url" in README
    assert f"timm {pinned['timm']} says" in README
    makefile = (ROOT / "Makefile").read_text()
    for tool, written in (("jupyter", "jupyter lab --ip=127.0.0.1 notebooks"), ("dpsims", "python -m dpsims app")):
        assert f"$(BIN)/{written}" in makefile and f".venv\\Scripts\\{written}" in README, tool
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.search(r"-e \"\.\[([\w,]+)\]\"", README)[1].split(",")) <= extras.keys()


def test_licences_of_others_are_what_timm_says():
    import timm

    names = {"Apache-2.0": "apache-2.0", "CC-BY-NC-4.0": "cc-by-nc-4.0", "MIT": "mit", "BSD-3-Clause": "bsd-3-clause"}
    table = re.findall(r"^\| (`[^|]+) \| ([\w.-]+)", README.partition("licence, as timm has it")[2], re.MULTILINE)
    assert len(table) == 7
    for weights, licence in table:
        for name in re.findall(r"`([^`]+)`", weights):
            name = name.replace("v2_*", "v2_base")
            assert timm.get_pretrained_cfg(name).license == names[licence], name


def test_what_the_readme_says_of_the_explorer_in_python_runs(monkeypatch):
    piece = README.split("## The explorer\n")[1].split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(ROOT)
    names = {}
    exec(compile(piece, "README.md", "exec"), names)
    g, labels, change = (
        names["g"],
        names["labels"],
        (names["one"] != names["g"](names["labels"][0], 0)).any(1)[0].numpy(),
    )
    assert change[labels[0] == 1].any() and not change[labels[0] != 1].any(), "outside every pixel is that of seed 0"
    assert torch.equal(names["way"][-1], g(labels[0], 1)) and len(names["way"]) == 24
    assert names["sky"].shape == names["faint"].shape == (2, 3, 64, 64)
