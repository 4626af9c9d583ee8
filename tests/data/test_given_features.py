"""Features that another program made: named, complete, of one layout; captioners train on them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dlmie.data import Captions, Features
from dlmie.data.captions.given_features import named_arrays
from dlmie.data.scenes import prepare_scenes
from dlmie.errors import DataError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Captions:
    folder = tmp_path_factory.mktemp("given")
    return prepare_scenes(folder / "s.h5", train=5, dev=2, test=1, size=32, progress=False)


def arrays_of(data: Captions, shape: tuple[int, ...] = (4,)) -> dict[str, np.ndarray]:
    """An array for each image that tells its place."""
    return {name: np.full(shape, place, np.float32) for place, name in enumerate(data.names)}


def test_each_image_has_its_own_whatever_their_order(data: Captions, tmp_path: Path) -> None:
    arrays = dict(sorted(arrays_of(data).items(), reverse=True)) | {"other.png": np.ones(4)}
    made = Features.from_arrays(data, arrays, encoder="clip", to=tmp_path / "f.h5")
    assert made.splits == {"train": 5, "dev": 2, "test": 1}
    np.testing.assert_array_equal(made.read("train", range(5))[:, 0], np.arange(5))
    np.testing.assert_array_equal(made.read("dev", [1, 0])[:, 0], [6, 5])
    assert made.header["encoder"]["name"] == "clip"
    assert made.header["data"] == data.hash
    with pytest.raises(DataError, match="exists; name another file or overwrite it"):
        Features.from_arrays(data, arrays, encoder="clip", to=tmp_path / "f.h5")
    assert not list(tmp_path.glob("*.part"))


def test_names_may_differ_in_folder_case_and_suffix(data: Captions, tmp_path: Path) -> None:
    arrays = {f"photos/{Path(n).stem.upper()}.JPG": a for n, a in arrays_of(data).items()}
    made = Features.from_arrays(data, arrays, encoder="clip", to=tmp_path / "f.h5")
    assert made.read("test", [0])[0, 0] == 7
    twice = arrays | {f"others/{Path(data.names[0]).stem}.png": np.ones(4)}
    with pytest.raises(DataError, match="several arrays match"):
        Features.from_arrays(data, twice, encoder="clip", to=tmp_path / "g.h5")


@pytest.mark.parametrize("layout", ["channels-first", "channels-last", None])
def test_layouts_of_grids(layout: str | None, data: Captions, tmp_path: Path) -> None:
    grid = np.arange(24, dtype=np.float32).reshape(2, 2, 6)
    arrays = dict.fromkeys(data.names, grid)
    if layout is None:
        with pytest.raises(DataError, match="are channels the first or the last"):
            Features.from_arrays(data, arrays, encoder="vit", to=tmp_path / "f.h5")
        return
    options: dict[str, Any] = {"encoder": "vit", "layout": layout, "to": tmp_path / "f.h5"}
    made = Features.from_arrays(data, arrays, **options)
    expected = grid if layout == "channels-first" else grid.transpose(2, 0, 1)
    assert made.shape == expected.shape
    np.testing.assert_array_equal(made.read("dev", [0])[0], expected)


def test_what_does_not_fit_is_named(data: Captions, tmp_path: Path) -> None:
    def refuse(arrays: dict[str, np.ndarray], message: str, **options: Any) -> None:
        with pytest.raises(DataError, match=message):
            Features.from_arrays(data, arrays, encoder="x", to=tmp_path / "f.h5", **options)
        assert not (tmp_path / "f.h5").exists()

    arrays, first = arrays_of(data), data.names[0]
    refuse({n: a for n, a in arrays.items() if n != first}, f"no features of {first}")
    refuse({**arrays, first: np.ones(3)}, r"one shape, not \(3,\) and \(4,\)")
    refuse({**arrays, first: np.full(4, np.nan)}, "not finite")
    refuse({**arrays, first: np.full(4, 1e9)}, "keep these features as float32")
    refuse(arrays_of(data, (3, 4)), "three axes, not")
    refuse(arrays_of(data, (0,)), r"not \(0,\)")
    refuse({**arrays, first: np.array(["x"] * 4)}, f"{first}: features are real numbers, not <U1")
    refuse(arrays, "layout is channels-first or channels-last, not 'x'", layout="x")


def test_files_of_arrays(data: Captions, tmp_path: Path) -> None:
    arrays = arrays_of(data)
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    np.save(tmp_path / "a.npy", np.stack(list(arrays.values())))
    (tmp_path / "names.txt").write_text("\n".join(arrays) + "\n")
    for found in (
        named_arrays(tmp_path / "a.npz", None),
        named_arrays(tmp_path / "a.npy", tmp_path / "names.txt"),
    ):
        assert found.keys() == arrays.keys()
        np.testing.assert_array_equal(found[data.names[3]], arrays[data.names[3]])
    with pytest.raises(DataError, match=r"which row is which image.*--names"):
        named_arrays(tmp_path / "a.npy", None)
    (tmp_path / "names.txt").write_text("\n".join(list(arrays)[1:]))
    with pytest.raises(DataError, match=r"lists 7 images, .*has 8 rows"):
        named_arrays(tmp_path / "a.npy", tmp_path / "names.txt")
    (tmp_path / "names.txt").write_text("\n".join([data.names[0]] * 8))
    with pytest.raises(DataError, match="twice"):
        named_arrays(tmp_path / "a.npy", tmp_path / "names.txt")
    np.save(tmp_path / "a.npy", np.float32(3))
    with pytest.raises(DataError, match="is one number, not a row for each image"):
        named_arrays(tmp_path / "a.npy", tmp_path / "names.txt")


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize("content", [b"\x93NUMPY", b"PK\x03\x04 not a zip", b"", "compressed"])
def test_damaged_files_of_arrays(name: str, content: bytes | str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content == "compressed":
        file = io.BytesIO()
        np.savez_compressed(file, a=np.arange(500.0))
        whole = bytearray(file.getvalue())
        whole[100:400] = bytes(300)
        content = bytes(whole)
    assert isinstance(content, bytes)
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: cannot be read"):
        named_arrays(path, None)


def test_a_file_that_seems_to_have_channels_last_is_refused(data: Captions, tmp_path: Path) -> None:
    arrays = arrays_of(data, (6, 2, 2))
    path = tmp_path / "f.h5"
    Features.from_arrays(data, arrays, encoder="x", to=path).close()
    with h5py.File(path, "r+") as file:
        header = file["header"][()].tobytes()
        del file["header"]
        assert b"[6, 2, 2]" in header
        changed = header.replace(b"[6, 2, 2]", b"[2, 2, 6]")
        changed = changed.replace(b'"layout": "channels-first", ', b"")
        file["header"] = np.frombuffer(changed, np.uint8)
    with pytest.raises(DataError, match=r"\(2, 2, 6\) seem to be rows, columns, channels"):
        Features(path)


def test_from_the_command_line(data: Captions, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from dlmie.cli import main

    np.savez(tmp_path / "a.npz", **arrays_of(data))  # type: ignore[arg-type]
    words = ["features", str(data.path), "--from", str(tmp_path / "a.npz"), "--to"]
    to = str(tmp_path / "f.h5")
    result = CliRunner().invoke(main, [*words, to, "--called", "clip ViT-B/32", "-q"])
    assert result.exit_code == 0, result.output
    assert Features(to).header["encoder"]["name"] == "clip ViT-B/32"
    shown = CliRunner().invoke(main, ["inspect", to]).output
    assert "clip ViT-B/32" in shown
    assert "random" not in shown
    result = CliRunner().invoke(main, [*words, to, "-q"])
    assert result.exit_code == 2
    assert "say what made the features" in result.output
    for option in (("--encoder", "vgg16"), ("--flip",)):
        result = CliRunner().invoke(main, [*words, to, "--called", "clip", *option])
        assert result.exit_code == 2
        assert f"{option[0]} does not go with --from" in result.output


@pytest.mark.parametrize(
    ("whole", "damaged"),
    [(b"'<f4'", b"',f4'"), (b"(1, 6), }" + b" " * 20, b"(9" + b"9" * 20 + b", 6), }")],
)
def test_a_damaged_header_of_an_array(whole: bytes, damaged: bytes, tmp_path: Path) -> None:
    path, names = tmp_path / "a.npy", tmp_path / "names.txt"
    np.save(path, np.ones((1, 6), "float32"))
    names.write_text("0.jpg\n")
    content = path.read_bytes()
    path.write_bytes(content.replace(whole, damaged, 1))
    assert path.read_bytes() != content
    with pytest.raises(DataError, match=r"a\.npy: cannot be read \("):
        named_arrays(path, names)
