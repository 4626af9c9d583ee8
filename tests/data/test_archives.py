"""Images in zip archives are found and read as those in folders are; nothing is unpacked."""

from __future__ import annotations

import io
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dlmie.data.captions.dataset import Captions
from dlmie.data.images import (
    ImageError,
    ImageFolder,
    archives,
    existing_path,
    find_images,
    image_size,
    load_image,
    stamp_of,
)
from dlmie.errors import DataError, OutputError

NFC, NFD = (unicodedata.normalize(form, "café.png") for form in ("NFC", "NFD"))


def png(level: int = 0) -> bytes:
    import PIL.Image

    content = io.BytesIO()
    PIL.Image.fromarray(np.full((4, 6, 3), level, np.uint8)).save(content, "PNG")
    return content.getvalue()


def pack(path: Path, *names: str, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """An archive of pictures; the number of each is its gray level."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for level, name in enumerate(names):
            archive.writestr(name, png(level))
    return path


def table(path: Path, *names: str) -> Path:
    path.write_text("image,caption\n" + "".join(f"{name},a dog\n" for name in names), "utf-8")
    return path


def level(path: Path) -> int:
    return int(load_image(path)[0, 0, 0])


def test_pictures_are_listed_and_read(tmp_path: Path) -> None:
    path = pack(tmp_path / "photos.ZIP", "b/2.png", "a.png", "noext", "b/.hidden.png")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "text")
        archive.writestr("__MACOSX/._a.png", "resource")
        archive.mkdir("empty.png")
    assert find_images(path) == [path / "a.png", path / "b/2.png", path / "noext"]
    assert find_images([path], recursive=False) == [path / "a.png", path / "noext"]
    assert find_images(path / "b") == [path / "b/2.png"]
    assert [level(p) for p in find_images(path)] == [1, 0, 2]
    assert image_size(path / "a.png") == (4, 6)
    assert existing_path(path / "B/2.PNG") == path / "b/2.png"
    with pytest.raises(DataError, match=r"a\.PNG: no such file in the archive"):
        load_image(path / "a.PNG")
    with pytest.raises(DataError, match="no image in this archive"):
        find_images(pack(tmp_path / "none.zip"))
    # An archive in a folder is not a picture of it.
    (tmp_path / "own.png").write_bytes(png())
    assert find_images(tmp_path) == [tmp_path / "own.png"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions(tmp_path: Path, method: int) -> None:
    assert level(pack(tmp_path / "a.zip", "0.png", "1.png", method=method) / "1.png") == 1


class TestFinding:
    def test_names_are_looked_up_as_in_folders(self, tmp_path: Path) -> None:
        path = pack(tmp_path / "train2014.zip", f"train2014/{NFD}", "train2014/B.PNG")
        files = ImageFolder(tmp_path, path)
        assert files.find(f"train2014/{NFC}").path == path / "train2014" / NFD
        for name in (NFC, "CAFÉ.png", "train2014\\" + NFC):
            assert files.find(name).path == path / "train2014" / NFD
        for name in ("b.png", "b", "train2014/b", "/data/train2014/b.png"):
            assert files.find(name).path == path / "train2014/B.PNG"
        assert "c.png: no such file" in str(files.find("c.png").problem)

    def test_a_name_that_fits_several_is_a_problem(self, tmp_path: Path) -> None:
        path = pack(tmp_path / "a.zip", "one/x.png", "two/x.png", NFC, NFD, "y.png", "Y.png")
        files = ImageFolder(tmp_path, path)
        assert "fits several files" in str(files.find("x.png").problem)
        assert "fits several files" in str(files.find("CAFÉ.PNG").problem)
        assert files.find("two/x.png").path == path / "two/x.png"
        assert files.find(NFC).path == path / NFC
        assert files.find(NFD).path == path / NFD
        y, upper = files.find("y.png"), files.find("Y.png")
        assert y.identity != upper.identity
        assert y.identity == ImageFolder(tmp_path, path).find("./y.png").identity

    def test_archives_in_a_folder_are_looked_into(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            pack(tmp_path / f"{split}2014.zip", f"{split}2014/{split}.png", f"{split}2014/0.png")
        files = ImageFolder(tmp_path, tmp_path)
        train = tmp_path / "train2014.zip/train2014"
        assert files.find("train.png").path == train / "train.png"
        assert files.find("0.png", hints=("train",)).path == train / "0.png"
        assert files.find("0.png", "train2014").path == train / "0.png"
        assert "fits several files" in str(files.find("0.png").problem)
        assert f"{tmp_path / '1.png'}: no such file" in str(files.find("1.png").problem)
        # What was unpacked comes first.
        (tmp_path / "train2014").mkdir()
        (tmp_path / "train2014/0.png").write_bytes(png(7))
        assert ImageFolder(tmp_path, tmp_path).find("0.png").path == tmp_path / "train2014/0.png"

    def test_equal_names_of_two_archives(self, tmp_path: Path) -> None:
        for name in ("one.zip", "two.zip"):
            pack(tmp_path / name, "0.png")
        files = ImageFolder(tmp_path, tmp_path)
        assert "fits several files" in str(files.find("0.png").problem)
        assert files.find("0.png", hints=("two",)).path == tmp_path / "two.zip/0.png"

    def test_names_in_utf_8_without_the_flag(self, tmp_path: Path) -> None:
        path = pack(tmp_path / "a.zip", NFC)
        # Both headers of the member lose the flag; its name stays in UTF-8.
        content = bytearray(path.read_bytes())
        for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            start = content.index(mark)
            assert content[start + at + 1] == 0x08
            content[start + at + 1] = 0
        path.write_bytes(content)
        assert find_images(path) == [path / NFC]


class TestBadArchives:
    def test_an_archive_that_is_none(self, tmp_path: Path) -> None:
        path = tmp_path / "a.zip"
        path.write_bytes(b"PK\x03\x04 and no more")
        for read in (
            find_images,
            lambda p: ImageFolder(tmp_path, p),
            lambda p: load_image(p / "x"),
        ):
            with pytest.raises(DataError, match=r"a\.zip: cannot be read as a zip archive \("):
                read(path)
        with pytest.raises(DataError, match=r"b\.zip: no such folder or zip archive of images"):
            ImageFolder(tmp_path, tmp_path / "b.zip")

    def test_two_members_of_one_name(self, tmp_path: Path) -> None:
        with pytest.warns(UserWarning, match="Duplicate name"):
            path = pack(tmp_path / "a.zip", "x/0.png", "x/0.png")
        with pytest.raises(ImageError, match=r"holds 2 files of this name"):
            load_image(path / "x/0.png")
        path = pack(tmp_path / "b.zip", "x/0.png", "x\\0.png")
        with pytest.raises(ImageError, match=r"holds 2 files of this name"):
            load_image(path / "x/0.png")

    def test_members_outside_are_none(self, tmp_path: Path) -> None:
        path = pack(tmp_path / "a.zip", "../0.png", "/1.png", "x/../../2.png", "3.png")
        assert find_images(path) == [path / "3.png"]

    def test_damage_is_one_line(self, tmp_path: Path) -> None:
        path = pack(tmp_path / "a.zip", "0.png", method=zipfile.ZIP_STORED)
        content = bytearray(path.read_bytes())
        content[60] ^= 1
        path.write_bytes(content)
        with pytest.raises(ImageError, match=r"0\.png: is damaged in its archive \(Bad CRC"):
            load_image(path / "0.png")

    def test_encrypted_members(self, tmp_path: Path) -> None:
        path = pack(tmp_path / "a.zip", "0.png")
        content = bytearray(path.read_bytes())
        for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            content[content.index(mark) + at] |= 1
        path.write_bytes(content)
        with pytest.raises(ImageError, match=r"0\.png: is encrypted: unpack the archive"):
            load_image(path / "0.png")

    def test_bombs_are_not_unpacked(self, tmp_path: Path) -> None:
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("0.png", bytes(archives.MAX_MEMBER + 1))
            archive.writestr("1.png", png() + bytes(100_000))
        assert path.stat().st_size < 2**20
        with pytest.raises(ImageError, match=r"0\.png: would take .* of memory: unpack"):
            load_image(path / "0.png")
        # One that claims to be small is read as far as it claims.
        content = bytearray(path.read_bytes())
        directory = content.rindex(b"PK\x01\x02")
        content[directory + 24 : directory + 28] = (50).to_bytes(4, "little")
        path.write_bytes(content)
        with pytest.raises(ImageError, match=r"1\.png: is damaged in its archive"):
            load_image(path / "1.png")

    def test_an_empty_member(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("0.png", b"")
        with pytest.raises(ImageError, match=r"0\.png: is empty"):
            load_image(tmp_path / "a.zip/0.png")


class TestPreparing:
    def test_equals_the_unpacked_images(self, tmp_path: Path) -> None:
        names = [f"train2014/{i}.png" for i in range(4)]
        packed = pack(tmp_path / "train2014.zip", *names)
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(tmp_path / "unpacked")
        source = table(tmp_path / "captions_train2014.csv", *(f"{i}.png" for i in range(4)))
        options = {"size": 4, "min_count": 1, "progress": False}
        ours = Captions.prepare(source, to=tmp_path / "a.h5", images=packed, **options)
        theirs = Captions.prepare(
            source, to=tmp_path / "b.h5", images=tmp_path / "unpacked", **options
        )
        assert ours.hash == theirs.hash
        assert not ours.header["skipped"]

    def test_paths_lead_into_archives(self, tmp_path: Path) -> None:
        for split, count in (("train", 3), ("val", 2)):
            pack(tmp_path / f"{split}2014.zip", *(f"{split}2014/{i}.png" for i in range(count)))
        sources = [
            table(tmp_path / "train.csv", *(f"train2014/{i}.png" for i in range(3))),
            table(tmp_path / "val.csv", *(f"val2014/{i}.png" for i in range(2))),
        ]
        data = Captions.prepare(
            sources,
            to=tmp_path / "paths.h5",
            images=tmp_path,
            store="paths",
            size=4,
            min_count=1,
            progress=False,
        )
        assert [p.relative_to(tmp_path).as_posix() for p in data["dev"].paths] == [
            "val2014.zip/val2014/0.png",
            "val2014.zip/val2014/1.png",
        ]
        assert data["train"].load_images([0, 1, 2])[:, 0, 0, 0].tolist() == [0, 1, 2]

    def test_a_changed_member_is_read_anew(self, tmp_path: Path) -> None:
        path = pack(tmp_path / "a.zip", "0.png", "1.png")
        before = stamp_of(path / "0.png")
        pack(tmp_path / "a.zip", "1.png", "0.png")
        assert stamp_of(path / "0.png") != before
        assert level(path / "0.png") == 1

    def test_the_archive_is_never_written_over(self, tmp_path: Path) -> None:
        path = pack(tmp_path / "a.zip", "0.png", "1.png")
        before = path.read_bytes()
        with pytest.raises(OutputError, match="would be lost"):
            Captions.prepare(
                table(tmp_path / "a.csv", "0.png", "1.png"),
                to=path,
                images=path,
                overwrite=True,
                progress=False,
            )
        assert path.read_bytes() == before
