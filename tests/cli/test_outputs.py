"""What commands write over: never what they read; and results that survive any interruption."""

from __future__ import annotations

import csv
import importlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest

from dlmie.captioning import compiled_captioners
from dlmie.captioning.decoding import Caption, Decoding
from dlmie.cli.app import VERBS
from dlmie.cli.verbs import OutputOption
from dlmie.data.scenes import prepare_scenes
from dlmie.errors import OutputError
from dlmie.files import containers
from dlmie.files.outputs import MODEL, Outputs, kind_of

SIZE = 8


class Captioner:
    """Captions a picture by its mean color, without a network; may stop at some picture."""

    def __init__(self, path: Path) -> None:
        preprocessing = SimpleNamespace(sizes=(SIZE,))
        self.members = [SimpleNamespace(encoder=SimpleNamespace(preprocessing=preprocessing),
                                        path=path, source=str(path))]  # fmt: skip
        self.seen, self.stop_at, self.stop = 0, -1, KeyboardInterrupt()

    def decoding(self, **options: Any) -> Decoding:
        return Decoding(**options)

    def features(self, images: list[np.ndarray]) -> list[float]:
        return [float(image.mean()) + len(images) / 7 for image in images]

    def decode(self, features: list[float], decoding: Decoding, keys: list[int]) -> Any:
        for key in keys:
            self.seen += 1
            if key == self.stop_at:
                if isinstance(self.stop, signal.Signals):
                    os.kill(os.getpid(), self.stop)
                else:
                    raise self.stop
        return [
            [Caption([4, 5], -value / n, -value / n, False, text=f"a dog {key}")
             for n in range(1, decoding.n_best + 1)]
            for key, value in zip(keys, features, strict=True)
        ]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photographs and a model file, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(10):
        pixels = np.full((6, 9, 3), 20 * number, np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{number}.png")
    containers.save(tmp_path / "m.h5", {"/W": np.ones(3)}, {"kind": "test"})
    return tmp_path


@pytest.fixture
def captioner(place: Path, monkeypatch: pytest.MonkeyPatch) -> Captioner:
    made = Captioner(place / "m.h5")
    monkeypatch.setattr(compiled_captioners, "load", lambda *_, **__: made)
    monkeypatch.setattr(compiled_captioners, "keep", lambda _: None)
    return made


def outputs_of(verb: str) -> Iterator[str]:
    command = importlib.import_module(f"dlmie.cli.commands.{verb}").command
    for param in command.params:
        if isinstance(param, OutputOption):
            yield param.opts[0]


#: A command line that reads the file ``x.jpg`` in each command that writes files.
READING = {
    "activations": ("x.jpg",), "attend": ("m.h5", "x.jpg"), "caption": ("m.h5", "x.jpg"),
    "classify": ("x.jpg",), "demo": None, "dream": ("x.jpg",), "evaluate": ("x.jpg",),
    "export": ("x.jpg",), "features": ("x.jpg",), "fool": ("x.jpg", "--target", "1"),
    "invert": ("x.jpg",), "prepare": ("x.jpg",), "reproduce": ("x.jpg",), "report": ("x.jpg",),
    "saliency": ("x.jpg",), "style": ("--content", "x.jpg", "--style", "x.jpg"),
    "train": ("x.jpg",), "visualize": ("--encoder-weights", "x.jpg", "--target", "1"),
    "search": ("x.jpg", "--over", "lr=0.1,0.2", "--to", "y"), "curves": ("x.jpg",),
    "sample": ("x.jpg",), "play": ("x.jpg", "--to", "y.gif"), "neighbors": ("x.jpg",),
    "weights": ("x.jpg",), "inspect": ("x.jpg",), "showcase": ("x.jpg",),
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_no_command_writes_over_what_it_reads(verb: str, place: Path, invoke: Any) -> None:
    options = list(outputs_of(verb))
    if not options:
        assert verb not in READING
        return
    words = READING[verb]
    if words is None:  # reads nothing
        return
    content = (place / "photos" / "3.png").read_bytes()
    (place / "x.jpg").write_bytes(content)
    os.link("x.jpg", "linked.jpg")
    (place / "sub").mkdir()
    (place / "sub" / "soft.jpg").symlink_to(place / "x.jpg")
    for option in options:
        for name in ("x.jpg", "./sub/../x.jpg", "linked.jpg", "sub/soft.jpg"):
            for more in ((), ("--overwrite",)):
                if more and verb == "train":
                    continue
                extra = ("--export", "coco") if verb == "evaluate" else ()
                result = invoke(verb, *words, option, name, *extra, *more)
                assert result.exit_code == 2, result.output
                assert len(result.stderr.strip().splitlines()) == 1, result.stderr
                assert "what the command reads" in result.stderr
    assert (place / "x.jpg").read_bytes() == content


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("photos/3.png", "what the command reads (photos"),
        ("m.h5", "what the command reads (m.h5)"),
        ("other.h5", "other.h5 is there and is a model, not text"),
        ("cat.jpg", "cat.jpg is there and is a picture, not text"),
        ("page.html", "page.html is there and is an HTML page, not text"),
        ("refs.json", "refs.json is there and is a JSON document, not a JSON list of results"),
        ("photos", "photos is a folder"),
    ],
)
@pytest.mark.usefixtures("captioner")
def test_files_of_other_kinds_stay(output: str, says: str, place: Path, invoke: Any) -> None:
    containers.save(place / "other.h5", {}, {})
    (place / "cat.jpg").write_bytes((place / "photos" / "1.png").read_bytes())
    (place / "page.html").write_text("<!DOCTYPE html><p>page")
    (place / "refs.json").write_text('{"annotations": [], "images": []}')
    path = place / output
    before = path.read_bytes() if path.is_file() else None
    result = invoke("caption", "m.h5", "photos", "--output", output)
    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert before is None or path.read_bytes() == before
    if "what the command reads" not in says and before is not None:
        result = invoke("caption", "m.h5", "photos", "-o", output, "--overwrite", "-q")
        assert result.exit_code == 0, result.output
        assert kind_of(path) in ("text", "a JSON list of results")


@pytest.mark.parametrize(
    "words",
    [
        ("curves", "r", "--to", "a.png"),
        ("weights", "r", "--to", "a.png"),
        ("sample", "r", "--to", "a.png"),
        ("sample", "r", "--animation", "a.gif"),
        ("play", "r", "--to", "a.gif"),
        ("play", "r", "--to", "b.gif", "--predictions", "a.png"),
        ("inspect", "r", "--samples", "a.png"),
        ("neighbors", "r", "--figure", "a.png"),
        ("neighbors", "r", "--map", "a.png"),
        ("search", "r", "--to", "s", "--over", "lr=1,2", "--figure", "a.png"),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("place")
def test_drawings_replace_nothing_else(words: tuple[str, ...], invoke: Any) -> None:
    for name in ("a.png", "a.gif"):
        Path(name).write_text("notes")
    result = invoke(*words)
    assert result.exit_code == 2, result.output
    assert "is there and is text, not a picture" in result.stderr
    assert "--overwrite" in result.stderr


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
@pytest.mark.usefixtures("place")
def test_a_chart_is_drawn_again(suffix: str, invoke: Any) -> None:
    Path("run").mkdir()
    Path("run/config.json").write_text("{}")
    Path("run/log.jsonl").write_text('{"epoch": 1, "loss": 2.0}\n{"epoch": 2, "loss": 1.0}\n')
    for _ in range(2):
        result = invoke("curves", "run", "--to", f"chart{suffix}")
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("prepare", "c.json"), "cat.jpg is there and is a picture, not prepared data"),
        (("prepare", "scenes"), "cat.jpg is there and is a picture, not prepared data"),
        (("prepare", "classes"), "cat.jpg is there and is a picture, not prepared data"),
        (("features", "scenes.h5"), "cat.jpg is there and is a picture, not a feature cache"),
        (("train", "scenes.h5"), "cat.jpg is a file, and a run is a folder"),
        (("demo",), "cat.jpg is a file: name a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_made_does_not_replace_a_photograph(
    words: tuple[str, ...], says: str, place: Path, invoke: Any
) -> None:
    content = (place / "photos" / "1.png").read_bytes()
    (place / "cat.jpg").write_bytes(content)
    (place / "c.json").write_text('{"photos/1.png": ["a dog"]}')
    for name in ("a", "b"):
        (place / "classes" / name).mkdir(parents=True)
        (place / "classes" / name / "1.png").write_bytes(content)
    prepare_scenes(place / "scenes.h5", train=2, dev=1, test=1, progress=False).close()
    result = invoke(*words, "--to", "cat.jpg", "-q")
    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert (place / "cat.jpg").read_bytes() == content


def test_the_model_of_a_run_is_not_replaced_unasked(place: Path, invoke: Any) -> None:
    run = place / "run"
    run.mkdir()
    (run / "config.json").write_text('{"format": "dlmie-run"}')
    shutil.copy(place / "m.h5", run / "best.h5")
    outputs = Outputs()
    with pytest.raises(OutputError, match="is the model of a run: name another file"):
        outputs.writes(run / "best.h5", MODEL)
    Outputs(overwrite=True).writes(run / "best.h5", MODEL)
    outputs.writes(place / "m.h5", MODEL)


def test_two_outputs_to_one_place(place: Path, invoke: Any) -> None:
    words = ("saliency", "photos/1.png", "--output", "a.png", "--figure", "./photos/../a.png")
    result = invoke(*words)
    assert result.exit_code == 2
    assert "two files would be written to" in result.stderr
    assert not (place / "a.png").exists()


def test_a_picture_made_again_does_not_replace_its_photograph(place: Path, invoke: Any) -> None:
    (place / "out.png").write_bytes((place / "photos" / "1.png").read_bytes())
    image = {"path": "photos/2.png", "sha256": "0", "size": [6, 9]}
    manifest = {"dlmie": "0", "format": 1, "picture": "saliency", "network": {}, "arguments": {},
                "images": {"image": image}, "file": "out.png"}  # fmt: skip
    (place / "out.json").write_text(json.dumps(manifest))
    result = invoke("reproduce", "out.png", "--output", "photos/2.png")
    assert result.exit_code == 2
    assert "what the command reads (photos/2.png)" in result.stderr


def test_the_suffix_decides(captioner: Captioner, place: Path, invoke: Any, fails: Any) -> None:
    for name in ("x.csv", "x.json", "x.txt"):
        assert invoke("caption", "m.h5", "photos", "-o", name, "-q").exit_code == 0
    table = list(csv.DictReader((place / "x.csv").read_text("utf-8-sig").splitlines()))
    items = json.loads((place / "x.json").read_text())
    assert [row["image"] for row in table] == [item["image"] for item in items]
    assert (place / "x.txt").read_text().startswith("photos/0.png: a dog 0\n")
    assert "do not agree" in fails("caption", "m.h5", "photos", "--json", "-o", "y.csv", code=2)
    assert "do not agree" in fails("caption", "m.h5", "photos", "--csv", "-o", "y.json", code=2)
    assert "no tables" in fails("classify", "photos", "-o", "y.csv", code=2)


@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.txt"])
@pytest.mark.parametrize("n_best", [1, 3])
@pytest.mark.parametrize(
    ("stop", "says"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (signal.SIGTERM, "stopped by SIGTERM"),
        (signal.SIGHUP, "stopped by SIGHUP"),
        (MemoryError(), "out of memory"),
    ],
)
def test_an_interrupted_folder_is_gone_on_with(
    stop: Any, says: str, n_best: int, name: str, captioner: Captioner, place: Path, invoke: Any
) -> None:
    words = ("caption", "m.h5", "photos", "--batch", 3, "--n-best", n_best, "-q", "-o")
    assert invoke(*words, name).exit_code == 0
    whole = (place / name).read_bytes()
    (place / name).unlink()
    for stop_at in (4, 8):
        captioner.stop_at, captioner.stop = stop_at, stop
        result = invoke(*words, name)
        assert result.exit_code == 1
        assert f"{name}.part keeps {stop_at // 3 * 3} pictures: the same command" in result.stderr
        assert says in result.stderr.splitlines()[-1]
        assert not (place / name).exists()
        if name == "x.json":
            assert len(json.loads((place / "x.json.part").read_text())) == stop_at // 3 * 3
    captioner.stop_at, captioner.seen = -1, 0
    assert invoke(*words, name).exit_code == 0
    assert captioner.seen == 4  # not those of whole batches that were done
    assert (place / name).read_bytes() == whole
    assert sorted(os.listdir(place)) == ["m.h5", "photos", name]


def test_other_options_do_not_go_on(captioner: Captioner, place: Path, invoke: Any) -> None:
    captioner.stop_at = 4
    words = ("caption", "m.h5", "photos", "--batch", 3, "-o", "x.csv", "-q")
    assert invoke(*words).exit_code == 1
    captioner.stop_at = -1
    result = invoke(*words, "--beam", 2)
    assert result.exit_code == 1
    assert "x.csv.part was started with other settings (beam)" in result.stderr
    assert invoke(*words, "--beam", 2, "--overwrite").exit_code == 0


def test_one_picture_more_in_a_table(captioner: Captioner, place: Path, invoke: Any) -> None:
    invoke("caption", "m.h5", "photos", "--csv", "-o", "x.csv", "-q")
    text = (place / "x.csv").read_text("utf-8").replace("a dog 3", "a cat, as I see it")
    text = text.replace("a cat, as I see it", '"a cat, as I see it"')
    (place / "x.csv").write_text(text, "utf-8")
    PIL.Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save("one.jpg")
    captioner.seen = 0
    words = ("caption", "m.h5", "one.jpg", "photos/3.png", "--csv", "-o", "x.csv", "-q")
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    assert "x.csv has rows, which stay (--overwrite starts over)" in result.stderr
    assert (place / "x.csv").read_text("utf-8").startswith(text)
    table = list(csv.DictReader((place / "x.csv").read_text("utf-8-sig").splitlines()))
    assert [row["image"] for row in table][-2:] == ["photos/9.png", "one.jpg"]
    invoke("caption", "m.h5", "one.jpg", "--csv", "-o", "x.csv", "-q", "--overwrite")
    assert len((place / "x.csv").read_text("utf-8-sig").splitlines()) == 2


def test_standard_output_may_be_named(captioner: Captioner, place: Path, invoke: Any) -> None:
    pipe = place / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert invoke("caption", "m.h5", "photos/1.png", "-o", pipe, "-q").exit_code == 0
    assert os.read(reader, 1000) == b"photos/1.png: a dog 0\n"
    os.close(reader)


@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.txt", None])
def test_names_that_are_no_text(
    name: str | None, captioner: Captioner, place: Path, invoke: Any
) -> None:
    os.rename(b"photos/3.png", b"photos/caf\xe9.png")
    output = () if name is None else ("-o", name)
    result = invoke("caption", "m.h5", "photos", *output)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("not UTF-8") == 1
    if name == "x.json":
        items = json.loads((place / name).read_text())
        assert os.fsencode(items[-1]["image"]) == b"photos/caf\xe9.png"
    else:
        text = (place / name).read_text() if name else result.stdout
        assert "photos/caf\\xe9.png" in text


def test_foreign_text_moves_no_cursor(captioner: Captioner, place: Path, invoke: Any) -> None:
    name = "\x1b[31m\u202egnp" + "x" * 100
    (place / name).write_bytes(b"no picture")
    for words in (("caption", "m.h5", name), ("inspect", name), ("saliency", name)):
        result = invoke(*words)
        assert result.exit_code == 1
        assert "\\x1b[31m\\u202e" in result.stderr
        assert "\x1b" not in result.output
        assert "\u202e" not in result.output
    long = invoke("inspect", "y" * 5000)
    assert len(long.stderr) < 1700


def test_result_files_of_models_of_one_name() -> None:
    from dlmie.cli.commands.evaluate import _result_files

    assert _result_files(["a/best.h5", "b/best.h5"], "dev") == [
        "captions_dev_a_best_results.json",
        "captions_dev_b_best_results.json",
    ]
    assert _result_files(["x/a/best.h5", "y/a/best.h5", "runs/c"], "dev") == [
        "captions_dev_a_best_results.json",
        "captions_dev_a_best_2_results.json",
        "captions_dev_c_results.json",
    ]
    assert _result_files(["runs/c", "runs/c"], "t")[1] == "captions_t_runs_c_2_results.json"


@pytest.mark.parametrize(
    ("words", "manifest"),
    [
        (("saliency", "photos/1.png", "--output", "a.png"), "a.json"),
        (("dream", "photos/1.png", "--output", "a.jpg", "--animation", "b.gif"), "b.json"),
        (("fool", "photos/1.png", "--output", "c.png", "--figure", "a.pdf"), "a.json"),
        (("attend", "m.h5", "photos", "--output", "drawn"), "drawn/3-attention.json"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else value,
)
def test_a_manifest_replaces_nothing_else_and_work_does_not_begin(
    words: tuple[str, ...], manifest: str, place: Path, invoke: Any
) -> None:
    Path(manifest).parent.mkdir(exist_ok=True)
    Path(manifest).write_text('{"mine": 1}')
    result = invoke(*words, "--quiet")
    assert result.exit_code == 2, result.output
    assert f"{manifest} exists and is not the manifest of a picture" in result.stderr
    assert sorted(place.glob("**/*.pdf")) == sorted(place.glob("drawn/*.png")) == []


@pytest.mark.parametrize("labels", [(), ("--labels", "shape")])
@pytest.mark.usefixtures("place")
def test_scenes_replace_scenes_where_they_are_told_to(labels: tuple[str, ...], invoke: Any) -> None:
    words = ("prepare", "scenes", *labels, "--to", "s.h5", "--dev", 2, "--test", 2, "--quiet")
    assert invoke(*words, "--train", 10).exit_code == 0
    other = invoke(*words, "--train", 12)
    assert other.exit_code == 1
    assert "holds something else; name another file or overwrite it" in other.stderr
    again = invoke(*words, "--train", 12, "--overwrite")
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", "pipe"),
        ("inspect", "pipe.h5"),
        ("prepare", "pipe.csv", "--to", "x.h5"),
        ("prepare", "pipe.json", "--check"),
        ("prepare", "c.csv", "--to", "x.h5", "--splits", "dev=pipe"),
        ("prepare", "c.csv", "--to", "x.h5", "--boxes", "pipe.json"),
        ("features", "pipe.h5"),
        ("train", "pipe.h5", "--to", "run"),
        ("evaluate", "m.h5", "--data", "pipe.h5"),
        ("evaluate", "pipe.h5", "--data", "d.h5"),
        ("score", "pipe.json", "c.csv"),
        ("score", "c.csv", "pipe.txt"),
        ("reproduce", "pipe.json"),
        ("saliency", "photos/1.png", "--encoder", "vgg16", "--encoder-weights", "pipe.h5"),
        ("curves", "pipe", "--to", "c.png"),
    ],
    ids=" ".join,
)
@pytest.mark.timeout(60)
def test_nothing_waits_for_a_pipe(words: tuple[str, ...], place: Path, invoke: Any) -> None:
    Path("c.csv").write_text("image,caption\nx.jpg,a dog\none.jpg,a cat\n")
    for name in {Path(word.rpartition("=")[2]).name for word in words if "pipe" in word}:
        os.mkfifo(place / name)
    result = invoke(*words, "--quiet")
    assert result.exit_code in (1, 2)
    assert result.stderr.count("\n") == 1, result.stderr
    assert "pipe" in result.stderr
    assert "no such file" not in result.stderr
