from __future__ import annotations

import json

import pytest

from dlmie.captioning.caption_files import read_captions, write_coco_results
from dlmie.data.captions.formats import Reading
from dlmie.errors import DataError, DlmieError


def write(path, value):
    text = value if isinstance(value, str) else json.dumps(value)
    path.write_text(text, encoding="utf-8")
    return path


RESULTS = [{"image_id": 7, "caption": "a dog"}, {"image_id": 3, "caption": ""}]
ANNOTATIONS = {
    "images": [{"id": 3}, {"id": 7}],
    "annotations": [
        {"id": 1, "image_id": 3, "caption": "a cat"},
        {"id": 2, "image_id": 7, "caption": "the dog"},
        {"id": 3, "image_id": 3, "caption": "two cats"},
    ],
}
NAMED = {"7": "a dog", "3": ""}
NAMED_REFERENCES = {"3": ["a cat", "two cats"], "7": ["the dog"]}


@pytest.mark.parametrize("hypotheses", [RESULTS, NAMED])
@pytest.mark.parametrize("references", [ANNOTATIONS, NAMED_REFERENCES])
def test_json_kinds_mix(tmp_path, hypotheses, references):
    mine, theirs = write(tmp_path / "h.json", hypotheses), write(tmp_path / "r", references)
    read = read_captions(mine, [theirs])
    assert read.names == ["7", "3"]
    assert read.hypotheses == ["a dog", ""]
    assert read.references == [["the dog"], ["a cat", "two cats"]]


def test_plain_text(tmp_path):
    mine = write(tmp_path / "h.txt", "a dog\r\n\r\n[ a cat\u2028sits\n")
    first = write(tmp_path / "r0", "the dog\ntwo men\na cat")  # no newline at the end
    second = write(tmp_path / "r1", "\ufeffdogs\n\ncats\n")
    read = read_captions(mine, [first, second])
    assert read.names == ["1", "2", "3"]
    assert read.hypotheses == ["a dog", "", "[ a cat\u2028sits"]
    assert read.references == [["the dog", "dogs"], ["two men", ""], ["a cat", "cats"]]


def test_several_json_files_of_references_are_joined(tmp_path):
    mine = write(tmp_path / "h", {"x": "a dog", "y": "a cat"})
    one, two = write(tmp_path / "1", {"x": ["dog"]}), write(tmp_path / "2", {"x": "d", "y": ["c"]})
    assert read_captions(mine, [one, two]).references == [["dog", "d"], ["c"]]


def test_references_without_caption_are_left_out_only_when_asked(tmp_path):
    mine, theirs = write(tmp_path / "h", {"3": "cats"}), write(tmp_path / "r", NAMED_REFERENCES)
    with pytest.raises(DataError, match=r"no caption for image 7 .*subset"):
        read_captions(mine, [theirs])
    assert read_captions(mine, [theirs], subset=True).names == ["3"]


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ({"a": "x", "b": "y"}, {"a": ["x"]}, r"no reference in .*r0 for image b$"),
        (dict.fromkeys("abcde", "x"), {"f": ["x"]}, "images a, b, c and 2 more"),
        ({"a": "x"}, {"a": []}, "no reference"),
        (RESULTS + RESULTS[:1], ANNOTATIONS, "exactly one caption .*image 7"),
        ({"a": ["x", "y"]}, {"a": ["x"]}, "exactly one caption"),
        ({"a": 5}, {"a": ["x"]}, "none of the known formats"),
        ([{"image": 1}], ANNOTATIONS, r"It has image; choose"),
        (["a dog"], ANNOTATIONS, "none of the known formats"),
        ("a dog\na cat\n", "a dog\n", "has 1 lines but .* has 2"),
        ("a dog\na cat\n", "a dog\n\n", "line 2 is empty in every file"),
        ("a dog\n", {"1": ["a dog"]}, "plain text but .* names its images"),
        ({"1": "a dog"}, "a dog\n", "plain text but the captions name"),
        ("", "a dog\n", "the file is empty"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, hypotheses, references, message):
    mine, theirs = write(tmp_path / "h", hypotheses), write(tmp_path / "r0", references)
    with pytest.raises(DataError, match=message) as caught:
        read_captions(mine, [theirs])
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    good = write(tmp_path / "good.json", {"a": "x"})
    broken = write(tmp_path / "broken.json", '{"a": "x",\n "b"')
    with pytest.raises(DataError, match=r"broken.json: is not JSON .line 2"):
        read_captions(broken, [good])
    with pytest.raises(DataError, match=r"nowhere.json: no such file"):
        read_captions(tmp_path / "nowhere.json", [good])
    (tmp_path / "latin").write_bytes("ein Bär".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8 text"):
        read_captions(good, [tmp_path / "latin"])
    with pytest.raises(DataError, match="at least one file"):
        read_captions(good, [])


def test_coco_results_are_written_and_read_back(tmp_path):
    path = tmp_path / "results.json"
    write_coco_results(path, ["42", 7, "dog.jpg", "007"], ["a", "b", "ein Bär", "d"])
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert [row["image_id"] for row in rows] == [42, 7, "dog.jpg", "007"]
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]
    references = write(tmp_path / "r", {name: ["x"] for name in ("42", "7", "dog.jpg", "007")})
    assert read_captions(path, [references]).hypotheses == ["a", "b", "ein Bär", "d"]


def test_coco_results_refuse_what_does_not_match(tmp_path):
    with pytest.raises(DataError, match="each image once"):
        write_coco_results(tmp_path / "r.json", [1, "1"], ["a", "b"])
    with pytest.raises(DataError, match="one caption for each image"):
        write_coco_results(tmp_path / "r.json", [1], [])
    (tmp_path / "file").touch()
    with pytest.raises(DlmieError, match="was not written"):
        write_coco_results(tmp_path / "file" / "r.json", [1], ["a"])


HYPOTHESES = {"photos/1.jpg": "a dog runs", "photos/2.jpg": "two children play"}
KINDS = {
    "csv": "\ufeffimage,rank,caption,log_probability\nphotos/1.jpg,1,a dog runs,-5.1\n"
    "photos/1.jpg,2,a cat,-6.0\nphotos/2.jpg,1,two children play,-6.0\n",
    "tsv": "image\tcaption\nphotos/1.jpg\ta dog runs\nphotos/2.jpg\ttwo children play\n",
    "json": [
        {"image": "photos/1.jpg", "caption": "a dog runs", "n_best": [{"caption": "a cat"}]},
        {"image": "photos/3.jpg", "error": "photos/3.jpg: is damaged"},
        {"image": "photos/2.jpg", "caption": "two children play", "n_best": []},
    ],
    "jsonl": '{"file_name": "photos/1.jpg", "text": "a dog runs"}\n'
    '{"file_name": "photos/2.jpg", "text": "two children play"}\n',
    "token.txt": "photos/1.jpg#0\ta dog runs\nphotos/2.jpg#0\ttwo children play\n",
    "mapping": HYPOTHESES,
}
ANSWERS = {
    "csv": "image,caption\nphotos/1.jpg,the dog\nphotos/2.jpg,two kids\nphotos/1.jpg,dog\n",
    "lists": "image;captions\nphotos/1.jpg;['the dog', 'dog']\nphotos/2.jpg;['two kids']\n",
    "token.txt": "1.jpg#0\tthe dog\n1.jpg#1\tdog\n2.jpg#0\ttwo kids\n",
    "karpathy": {
        "images": [
            {"filename": "1.jpg", "cocoid": 1, "sentences": [{"raw": "the dog"}, {"raw": "dog"}]},
            {"filename": "2.jpg", "cocoid": 2, "sentences": [{"raw": "two kids"}]},
        ]
    },
    "coco": {
        "images": [{"id": 11, "file_name": "1.jpg"}, {"id": 12, "file_name": "2.jpg"}],
        "annotations": [
            {"image_id": 11, "caption": "the dog"},
            {"image_id": 12, "caption": "two kids"},
            {"image_id": 11, "caption": "dog"},
            {"image_id": 12, "caption": "Quality issues", "is_rejected": True},
        ],
    },
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_all_that_is_written_against_all_that_is_read(tmp_path, kind, answer):
    mine = write(tmp_path / f"h.{kind}", KINDS[kind])
    read = read_captions(mine, [write(tmp_path / f"r.{answer}", ANSWERS[answer])])
    assert read.names == list(HYPOTHESES)
    assert read.hypotheses == list(HYPOTHESES.values())
    assert [sorted(texts) for texts in read.references] == [["dog", "the dog"], ["two kids"]]
    assert sum("rejected" in note for note in read.notes) == (answer == "coco")


def test_images_go_by_their_label_or_their_name(tmp_path):
    karpathy = write(tmp_path / "r.json", ANSWERS["karpathy"])
    for label in (2, "2", 2.0):
        mine = write(tmp_path / "h.json", [{"image_id": label, "caption": "x"}])
        assert read_captions(mine, [karpathy], subset=True).references == [["two kids"]]


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ({"000139": "x"}, {"139": ["y"]}, r"\(the references have 139: names must be written"),
        ({"A.JPG": "x"}, {"a.jpg": ["y"]}, r"\(the references have a.jpg"),
        # what a path ends with must be all of the other name, and of one image
        ({"cats/1.jpg": "x"}, {"dogs/1.jpg": ["y"]}, "no reference"),
        ({"1.jpg": "x"}, {"cats/1.jpg": ["y"], "dogs/1.jpg": ["z"]}, "no reference"),
        ({"cats/1.jpg": "x", "dogs/1.jpg": "y"}, {"1.jpg": ["z"]}, "exactly one caption"),
        ('{"139": "x", "285": "y", "139": "z"}', {"139": ["y"]}, "'139' is given more than once"),
        ("image,caption\na.jpg,x\na.jpg,y\n", {"a.jpg": ["z"]}, "exactly one caption"),
        ("a.jpg#0\tx\na.jpg#1\ty\n", {"a.jpg": ["z"]}, "exactly one caption"),
        ("image,caption\na.jpg,x\nb.jpg,y,z\n", {"a.jpg": ["z"]}, "line 3: has 3 columns"),
        ("bild\tsatz\na\tx\nb\ty\n", "x\ny\nz\n", "It has bild, satz"),
        ("1;x\n2;y\n", "x\ny\n", "choose with --image-column"),
        ("caption\nx\n", "x\ny\n", "none of the known|columns"),
        ({"a": "['x', 'y']"}, {"a": ["z"]}, "exactly one caption"),
        ({"a": "{'x': 1}"}, {"a": ["z"]}, "image a: a caption is a list or an object"),
        ({"a": "x"}, {"a": ["", " "]}, "no reference"),
        ("[" * 100_000, {"a": ["z"]}, "nested"),
        ('[{"image_id": ' + "9" * 5000 + ', "caption": "x"}]', {"a": ["z"]}, "too many digits"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(tmp_path, hypotheses, references, message):
    mine, theirs = write(tmp_path / "h", hypotheses), write(tmp_path / "r0", references)
    with pytest.raises(DataError, match=message) as caught:
        read_captions(mine, [theirs])
    assert "\n" not in str(caught.value)


def test_sentences_with_commas_are_no_table(tmp_path):
    lines = "a dog, running\na cat, asleep\ntwo men; one red | blue\n"
    mine = write(tmp_path / "h.txt", lines)
    assert read_captions(mine, [write(tmp_path / "r.txt", lines)]).hypotheses[0] == "a dog, running"
    named = write(tmp_path / "h.csv", lines)
    with pytest.raises(DataError, match="which columns"):
        read_captions(named, [write(tmp_path / "r.txt", lines)])


def test_a_file_of_blank_lines_is_references_that_are_missing(tmp_path):
    mine = write(tmp_path / "h.txt", "dog\na cat\n")
    blank, good = write(tmp_path / "r1", "\n\n"), write(tmp_path / "r2", "a dog\nthe cat\n")
    assert read_captions(mine, [blank, good]).references == [["", "a dog"], ["", "the cat"]]


def test_encodings_and_columns(tmp_path):
    for name in ("h.csv", "r.csv"):
        (tmp_path / name).write_bytes("bild;satz\na;ein Bär\n".encode("cp1252"))
    reading = Reading("cp1252", "bild", ("satz",))
    read = read_captions(tmp_path / "h.csv", [tmp_path / "r.csv"], reading=reading)
    assert read.hypotheses == ["ein Bär"]
    assert read.references == [["ein Bär"]]
