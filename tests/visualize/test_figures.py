"""Figures: saved pixel by pixel, drawn, animated; manifests beside them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_networks import Small, photo

from dlmie.data.images import load_image, save_image
from dlmie.errors import DataError, DlmieError, OutputError
from dlmie.visualize.ascent.models import describe_network
from dlmie.visualize.figures.compositing import beside, colorize, stretch, tile
from dlmie.visualize.figures.contact_sheet import class_samples, contact_sheet
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.manifests import make_manifest, read_manifest
from dlmie.visualize.figures.panels import Panel
from dlmie.visualize.figures.sources import SourceImage


@pytest.fixture
def figure(small: Small, tmp_path: Path) -> Figure:
    picture = photo(20, 30)
    save_image(tmp_path / "in.png", picture)
    manifest = make_manifest(
        "dream",
        describe_network(small),
        {"steps": 3},
        images={"image": SourceImage.read(tmp_path / "in.png").describe()},
        results={"x": 1.5},
    )
    map_ = np.linspace(0, 1, 600).reshape(20, 30)
    curves = Panel(np.array([[1, 2, 3.0]]), "curve", labels=("a",), axes=("x", "y"))
    return Figure(
        picture,
        [Panel(picture, "photo"), Panel(map_, "map"), curves],
        manifest=manifest,
        arrays={"map": map_},
        frames=[picture, picture[::-1]],
        photo=picture,
    )


def test_saving(figure: Figure, tmp_path: Path) -> None:
    figure.save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), figure.image)
    manifest = json.loads((tmp_path / "a.json").read_text())
    assert manifest["picture"] == "dream"
    assert manifest["network"]["name"] == "small"
    assert manifest["arguments"] == {"steps": 3}
    assert manifest["file"] == "a.png"
    assert len(manifest["images"]["image"]["sha256"]) == 64
    assert read_manifest(tmp_path / "a.png") == manifest
    for name, start in (("a.pdf", b"%PDF"), ("a.svg", b"<?xml"), ("a.gif", b"GIF89a")):
        figure.save(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    drawn = figure.figure().save(tmp_path / "panels.png")
    assert load_image(drawn).shape[1] > 600
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert figure.overlay().image.shape == (20, 30, 3)  # type: ignore[union-attr]
    assert figure.strip().image.shape == (20, 30, 3)  # type: ignore[union-attr]
    assert not list(tmp_path.glob("*.part"))


def test_drawing_twice_gives_the_same_file(figure: Figure, tmp_path: Path) -> None:
    for name in ("1.pdf", "2.pdf", "1.png", "2.png"):
        figure.figure().save(tmp_path / name)
    assert (tmp_path / "1.pdf").read_bytes() == (tmp_path / "2.pdf").read_bytes()
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


def test_errors(figure: Figure, tmp_path: Path) -> None:
    with pytest.raises(DlmieError, match=r"\.tif"):
        figure.save(tmp_path / "a.tif")
    (tmp_path / "mine.json").write_text('{"precious": 1}')
    with pytest.raises(DlmieError, match="is not the manifest"):
        figure.save(tmp_path / "mine.png")
    assert (tmp_path / "mine.json").read_text() == '{"precious": 1}'
    figure.frames = []
    with pytest.raises(DlmieError, match="kept no frames"):
        figure.save(tmp_path / "a.gif")
    with pytest.raises(DataError, match="no such manifest"):
        read_manifest(tmp_path / "nothing.png")
    with pytest.raises(DataError, match="is not the manifest of a picture"):
        read_manifest(tmp_path / "mine.json")
    (tmp_path / "later.json").write_text('{"picture": "dream", "format": 99}')
    with pytest.raises(DataError, match="later version"):
        read_manifest(tmp_path / "later.json")


def test_pyplot_is_left_alone(figure: Figure) -> None:
    import subprocess
    import sys

    code = (
        "import sys, numpy as np; from dlmie.visualize.figures.figure import Figure, Panel; "
        "Figure(None, [Panel(np.eye(4))]).pixels(); print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_layouts() -> None:
    a, b = photo(10, 10), photo(20, 40)
    assert beside([a, b], gap=4).shape == (10, 10 + 4 + 20, 3)
    assert tile([a] * 5, 3, gap=2).shape == (22, 34, 3)
    assert colorize(np.array([[0.0, 1.0]])).shape == (1, 2, 3)
    gray = stretch(np.array([[[-2.0], [0.0], [2.0]]]))
    assert gray.ravel().tolist() == [0, 128, 255]
    assert stretch(np.zeros((2, 2, 3))).tolist() == np.full((2, 2, 3), 128).tolist()


def test_samples_of_classes() -> None:
    images = np.stack([np.full((3, 8, 8), 10 * i + 0.4, np.float32) for i in range(20)])
    labels = np.arange(20) // 5  # four classes of five
    names = ["cat", "dog", "goose", "iPod"]
    figure = class_samples(images, labels, names, classes=3, each=4, seed=1)
    assert figure.columns == 3
    assert len(figure.panels) == 12
    titles = [panel.title for panel in figure.panels]
    assert titles[3:] == [""] * 9
    for column, name in enumerate(titles[:3]):  # each column is of the class above it
        shown = {int(panel.image[0, 0, 0]) // 10 for panel in figure.panels[column::3]}
        assert len(shown) == 4
        assert {names[labels[i]] for i in shown} == {name}
    assert class_samples(np.zeros((4, 8, 8, 3)), [0] * 4, names, classes=1, each=2).pixels().ndim
    with pytest.raises(DlmieError, match="4 classes have 5 images, not 5"):
        class_samples(images, labels, names, classes=5, each=5)


def test_drawing_needs_no_compiler(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, numpy as np\n"
        "from dlmie.visualize.figures.figure import Figure, Panel\n"
        "from dlmie.visualize.figures import contact_sheet, report_page, text_rendering\n"
        "from dlmie.visualize.figures.manifests import make_manifest\n"
        "from dlmie.visualize import attend\n"
        "manifest = make_manifest('dream', {'name': 'small'}, {'steps': 3})\n"
        f"Figure(None, [Panel(np.eye(4))], manifest=manifest).save({str(tmp_path / 'a.png')!r})\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'pytensor'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert load_image(tmp_path / "a.png").shape[1] > 300


def test_a_manifest_names_the_version_of_pytensor() -> None:
    import pytensor

    manifest = make_manifest("dream", {}, {})
    assert manifest["versions"]["pytensor"] == pytensor.__version__


def test_one_manifest_for_each_file(figure: Figure, tmp_path: Path) -> None:
    other = replace(figure, manifest={**figure.manifest, "arguments": {"steps": 4}})
    figure.save(tmp_path / "out.png")
    other.save(tmp_path / "out.jpg")
    assert read_manifest(tmp_path / "out.png")["arguments"] == {"steps": 3}
    assert read_manifest(tmp_path / "out.jpg")["arguments"] == {"steps": 4}
    names = {path.name for path in tmp_path.glob("*.json")}
    assert names == {"out.json", "out.jpg.json"}
    other.save(tmp_path / "out.png")  # again: in its own place
    figure.save(tmp_path / "out.jpg")
    assert read_manifest(tmp_path / "out.png")["arguments"] == {"steps": 4}
    assert read_manifest(tmp_path / "out.jpg")["arguments"] == {"steps": 3}
    assert {path.name for path in tmp_path.glob("*.json")} == names
    (tmp_path / "out.png").rename(tmp_path / "moved.png")  # both renamed: still a pair
    (tmp_path / "out.json").rename(tmp_path / "moved.json")
    assert read_manifest(tmp_path / "moved.png")["arguments"] == {"steps": 4}


def test_a_photograph_is_not_replaced_by_what_was_made_of_it(
    figure: Figure, tmp_path: Path
) -> None:
    save_image(tmp_path / "photo.png", np.zeros((20, 30, 3), np.uint8))
    before = (tmp_path / "photo.png").read_bytes()
    image = {"path": str(tmp_path / "photo.png"), "sha256": "0", "size": [20, 30]}
    made = replace(figure, manifest={**figure.manifest, "images": {"image": image}})
    os.link(tmp_path / "photo.png", tmp_path / "linked.png")
    for name in ("photo.png", "linked.png"):
        with pytest.raises(OutputError, match="would be lost"):
            made.save(tmp_path / name)
    assert (tmp_path / "photo.png").read_bytes() == before


def test_why_there_is_no_animation(figure: Figure, tmp_path: Path) -> None:
    for picture, still, says in (
        ("dream", "", "kept no frames$"),
        ("visualize", "", "kept no frames; ask for them: frames=20"),
        ("attend", "the caption is empty", "the caption is empty"),
    ):
        manifest = {**figure.manifest, "picture": picture}
        made = replace(figure, frames=[], still=still, manifest=manifest)
        with pytest.raises(DlmieError, match=says):
            made.save(tmp_path / "a.gif")


def test_a_figure_shows_itself_in_a_line(figure: Figure) -> None:
    assert repr(figure) == "Figure(dream, 20×30, 3 panels, 2 frames)"
    assert repr(Figure(None)) == "Figure()"
    for thing in (figure.panels[0], SourceImage(photo(), "a.png"), contact_sheet([photo()], ["a"])):
        assert len(repr(thing)) < 200
