"""train, evaluate, caption, inspect: one small captioner, and everything that can go wrong."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cli_encoder import ENCODER

from dlmie.files import containers as storage

GOOD = {"color.png", "gray.png", "cmyk.jpg", "alpha.png", "single.png", "deep.png", "animated.gif"}


class TestOverfit:
    def test_says_whether_it_passed(self, scenes: Path, invoke: Any) -> None:
        sizes = ("--embedding", 16, "--hidden", 32, "--lr", 0.02, "--batch", 3, *ENCODER)
        result = invoke("train", scenes, "--overfit", 6, *sizes, "--json", "--quiet")
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        assert document["passed"]
        assert document["images"] == 6
        assert document["loss"] <= document["target"] < document["first_loss"]
        assert document["stuck"] == []

    def test_one_that_does_not_fails(self, scenes: Path, invoke: Any) -> None:
        sizes = ("--embedding", 4, "--hidden", 4, "--lr", 1e-6, "--epochs", 1, *ENCODER)
        result = invoke("train", scenes, "--overfit", 6, *sizes, "--quiet")
        assert result.exit_code == 1
        assert "FAILED" in result.stdout
        assert "the overfit check failed" in result.stderr


class TestExport:
    def test_of_several_models_the_mean_is_written(
        self, run: Path, tmp_path: Path, invoke: Any
    ) -> None:
        header, arrays = storage.load(run / "best.h5")
        other, both = tmp_path / "other.h5", tmp_path / "both.h5"
        own = {name for name in arrays if name.startswith("/tiny_imagenet/")}  # of the encoder
        assert own
        storage.save(other, {n: a if n in own else a + 0.5 for n, a in arrays.items()}, header)
        result = invoke("export", run, other, "--to", both, "--dtype", "float32")
        assert result.exit_code == 0, result.output
        header, mean = storage.load(both)
        assert len(header["meta"]["averaged"]) == 2
        assert mean.keys() == arrays.keys()
        for name, array in arrays.items():
            expected = array if name in own else array + 0.25
            np.testing.assert_allclose(mean[name], expected, rtol=1e-6, atol=1e-6)

    def test_the_file_says_how_it_captions(
        self, run: Path, scenes: Path, tmp_path: Path, invoke: Any, fails: Any
    ) -> None:
        own = tmp_path / "own.h5"
        said = ("--average-flip", "--beam", 2, "--length-norm", 0.5, "--no-repeat-ngram", 3)
        result = invoke("export", run, "--to", own, *said)
        assert result.exit_code == 0, result.output
        shown = invoke("inspect", own).stdout
        assert "the mean of image and mirror image" in shown
        assert "beam 2, length_norm 0.5, no_repeat_ngram 3" in shown
        evaluated = invoke("evaluate", own, "--data", scenes, "--json").stdout
        assert json.loads(evaluated)["protocol"]["decoding"].startswith("beam 2, length norm 0.5")
        evaluated = invoke("evaluate", own, "--data", scenes, "--length-norm", 0.85).stdout
        assert "beam 2, length norm 0.85" in evaluated  # even though it is the usual default
        assert "no 3-gram twice" in evaluated
        result = invoke("export", own, "--to", tmp_path / "one.h5", "--no-average-flip")
        assert result.exit_code == 0, result.output
        assert "mirror image" not in invoke("inspect", tmp_path / "one.h5").stdout
        wrong = ("--min-length", 9, "--max-length", 9)
        assert "min_length" in fails("export", run, "--to", tmp_path / "x.h5", *wrong, code=2)
        line = fails("export", run, "--to", tmp_path / "x.h5", "--class-words", 1)
        assert "knows no class_words" in line
        assert not (tmp_path / "x.h5").exists()

    def test_models_that_differ_have_no_mean(self, run: Path, tmp_path: Path, fails: Any) -> None:
        header, arrays = storage.load(run / "best.h5")
        header["encoder"]["layer"] = "another"
        other = storage.save(tmp_path / "other.h5", arrays, header)
        line = fails("export", run, other, "--to", tmp_path / "both.h5")
        assert "cannot be averaged" in line
        assert not (tmp_path / "both.h5").exists()


class TestCaption:
    def test_a_folder_skips_and_lists_bad_files(
        self, run: Path, photographs: Path, invoke: Any
    ) -> None:
        result = invoke("caption", run, photographs, "--json", "--beam", 2, "--n-best", 2)
        assert result.exit_code == 0, result.output
        items = json.loads(result.stdout)
        failed = {Path(item["image"]).name for item in items if set(item) == {"image", "error"}}
        assert failed == {"bad-empty.png", "bad-noise.jpg", "bad-truncated.png", "bad-huge.png"}
        items = [item for item in items if "error" not in item]
        assert {Path(item["image"]).name for item in items} == GOOD
        numbers = {"caption", "log_probability", "score", "words"}
        for item in items:
            assert set(item) == {"image", *numbers, "n_best"}
            assert item["caption"] == item["n_best"][0]["caption"]
            assert item["log_probability"] == item["n_best"][0]["log_probability"] < 0
            assert len(item["n_best"]) == 2
            assert item["n_best"][0]["score"] >= item["n_best"][1]["score"]
            for each in item["n_best"]:
                assert set(each) == numbers
                said = [word for word, _ in each["words"] if word != "<end>"]
                assert " ".join(said) == each["caption"]
                total = sum(math.log(max(probability, 1e-5)) for _, probability in each["words"])
                assert total == pytest.approx(each["log_probability"], rel=0.02)
        for name in ("bad-empty.png", "bad-noise.jpg", "bad-truncated.png", "bad-huge.png"):
            assert name in result.stderr
        assert "4 of 11 images could not be read" in result.stderr

    def test_strict_captions_all_and_fails(self, run: Path, photographs: Path, invoke: Any) -> None:
        result = invoke("caption", run, photographs, "--strict", "--quiet", "--beam", 1)
        assert result.exit_code == 1
        assert len(result.stdout.splitlines()) == len(GOOD)
        assert "4 of 11 images" in result.stderr

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("bad-empty.png", "empty"),
            ("bad-noise.jpg", "not an image"),
            ("bad-truncated.png", "truncated"),
            ("bad-huge.png", "pixels"),
            ("nothing.png", "no such file"),
        ],
    )
    def test_one_bad_image_is_one_line(
        self, run: Path, photographs: Path, fails: Any, name: str, reason: str
    ) -> None:
        line = fails("caption", run, photographs / name)
        assert name in line
        assert reason in line

    def test_text(self, run: Path, photographs: Path, invoke: Any) -> None:
        path = photographs / "color.png"
        result = invoke("caption", run, path, "--quiet")
        assert result.stdout.startswith(f"{path}: ")
        assert result.stdout.count("\n") == 1
        assert result.stderr == ""

    def test_batches_do_not_matter(self, run: Path, photographs: Path, invoke: Any) -> None:
        drawn = ("--samples", 2, "--seed", 5, "--temperature", 1.5, "--json")
        several = invoke("caption", run, photographs, *drawn, "--batch", 16)
        single = invoke("caption", run, photographs, *drawn, "--batch", 1)
        captions = [
            [item.get("caption") for item in json.loads(result.stdout)]
            for result in (several, single)
        ]
        assert captions[0] == captions[1]

    def test_csv_is_safe_in_a_spreadsheet(
        self, run: Path, photographs: Path, invoke: Any, tmp_path: Path, monkeypatch: Any
    ) -> None:
        hostile = tmp_path / '=HYPERLINK,"x".png'
        shutil.copy(photographs / "color.png", hostile)
        monkeypatch.chdir(tmp_path)
        table = tmp_path / "captions.csv"
        result = invoke("caption", run, hostile.name, "--csv", "--output", table, "--quiet")
        assert result.exit_code == 0, result.output
        assert result.stdout == ""
        head = b"image,rank,caption,log_probability,score,word_probabilities\n"
        assert table.read_bytes().startswith(b"\xef\xbb\xbf" + head)
        rows = list(csv.DictReader(io.StringIO(table.read_text("utf-8-sig"))))
        assert rows[0]["image"] == "'" + hostile.name
        assert float(rows[0]["log_probability"]) < float(rows[0]["score"]) < 0
        probabilities = rows[0]["word_probabilities"].split()
        assert len(probabilities) in (len(rows[0]["caption"].split()) + more for more in (0, 1))

    def test_misuse(self, run: Path, photographs: Path, fails: Any) -> None:
        assert "exclude" in fails("caption", run, photographs, "--csv", "--json", code=2)

    def test_output_that_cannot_be_written(self, run: Path, photographs: Path, fails: Any) -> None:
        path = photographs / "color.png"
        line = fails("caption", run, path, "-o", path / "captions.txt")
        assert "captions.txt" in line


class TestModels:
    def test_nothing_there(self, fails: Any, photographs: Path) -> None:
        assert "flickr8k" in fails("caption", "flikr8k", photographs)

    def test_a_folder_without_a_model(self, fails: Any, photographs: Path, tmp_path: Path) -> None:
        assert "is not a run folder" in fails("caption", tmp_path, photographs)
        (tmp_path / "config.json").write_text("{}")
        assert "no trained model" in fails("caption", tmp_path, photographs)

    def test_truncated(self, run: Path, photographs: Path, tmp_path: Path, fails: Any) -> None:
        whole = (run / "best.h5").read_bytes()
        broken = tmp_path / "broken.h5"
        broken.write_bytes(whole[: len(whole) // 2])
        line = fails("caption", broken, photographs)
        assert "broken.h5" in line
        assert "truncated" in line or "damaged" in line
        fails("inspect", broken)

    def test_from_the_future(
        self, run: Path, photographs: Path, tmp_path: Path, fails: Any
    ) -> None:
        future = tmp_path / "future.h5"
        shutil.copy(run / "best.h5", future)
        with h5py.File(future, "r+") as file:
            header = json.loads(bytes(file["header"][()]))
            header["version"] = 99
            del file["header"]
            file["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        line = fails("caption", future, photographs)
        assert "version 99" in line
        assert "upgrade" in line

    def test_of_another_vocabulary(
        self, run: Path, photographs: Path, tmp_path: Path, fails: Any
    ) -> None:
        other = tmp_path / "other.h5"
        shutil.copy(run / "best.h5", other)
        with h5py.File(other, "r+") as file:
            header = json.loads(bytes(file["header"][()]))
            words = header["vocabulary"]
            words[5], words[6] = words[6], words[5]
            del file["header"]
            file["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        line = fails("caption", f"{run},{other}", photographs)
        assert "vocabular" in line

    def test_ensemble(self, run: Path, photographs: Path, invoke: Any) -> None:
        path = photographs / "color.png"
        one, two = (
            json.loads(invoke("caption", model, path, "--json").stdout)[0]
            for model in (run, f"{run},{run}")
        )
        assert one["caption"] == two["caption"]
        assert one["log_probability"] == pytest.approx(two["log_probability"], rel=1e-4)


class TestEvaluate:
    def test_json(self, run: Path, invoke: Any) -> None:
        result = invoke("evaluate", run, "--json", "--bootstrap", 20)
        document = json.loads(result.stdout)
        assert 0 <= document["bleu_4"] <= 1
        assert document["model"] == str(run)
        assert document["protocol"]["split"] == "dev"
        assert document["protocol"]["decoding"].startswith("beam 5")
        assert 0 < document["protocol"]["vocabulary_coverage"] <= 1
        assert "bleu_1_interval" in document

    def test_the_tokenizer_is_the_captioner_s_unless_another_is_named(
        self, run: Path, invoke: Any
    ) -> None:
        found = {}
        for options in ((), ("--tokenizer", "words"), ("--tokenizer", "characters")):
            document = json.loads(invoke("evaluate", run, "--json", "--beam", 1, *options).stdout)
            found[options] = (document["protocol"]["tokenizer"], document["bleu_1"])
        assert found[()] == found["--tokenizer", "words"]
        assert found["--tokenizer", "characters"][0] == "characters"
        assert found["--tokenizer", "characters"][1] != found[()][1]

    def test_features_and_images_agree(self, run: Path, scenes: Path, invoke: Any) -> None:
        # Once from the run's feature cache (float16), once from the images.
        cached = invoke("evaluate", run, "--json")
        moved = invoke("evaluate", run / "best.h5", "--data", scenes, "--json")
        pair = [json.loads(result.stdout)["rouge_l"] for result in (cached, moved)]
        assert pair[0] == pytest.approx(pair[1], abs=0.05)

    def test_side_by_side(self, run: Path, invoke: Any) -> None:
        result = invoke("evaluate", run, run, "--quiet", "--beam", 1)
        lines = result.stdout.splitlines()
        assert "bleu_4" in lines[0]
        assert lines[1] == lines[2]
        assert lines[1].startswith(str(run))
        assert "split dev" in lines[-1]
        documents = json.loads(invoke("evaluate", run, run, "--json").stdout)
        assert [document["model"] for document in documents] == [str(run)] * 2

    def test_commas_make_an_ensemble(self, run: Path, invoke: Any) -> None:
        options = ("--json", "--beam", 1)
        result = invoke("evaluate", f"{run},{run}", run, *options)
        assert result.exit_code == 0, result.output
        ensemble, alone = json.loads(result.stdout)
        named = json.loads(invoke("evaluate", run, run, "--ensemble", *options).stdout)
        assert ensemble == named
        assert (ensemble["model"], alone["model"]) == (f"{run}+{run}", str(run))

    @pytest.mark.parametrize(
        "option", [("--episodes", 3), ("--seeds", 2), ("--images", 5), ("--classifier", "x")]
    )
    def test_options_of_other_models_are_refused(
        self, run: Path, option: tuple[Any, ...], fails: Any
    ) -> None:
        line = fails("evaluate", run, *option, code=2)
        assert f"{option[0]} does not apply to captioners" in line

    def test_export(self, run: Path, tmp_path: Path, invoke: Any, fails: Any) -> None:
        to = tmp_path / "results.json"
        invoke("evaluate", run, "--export", "coco", "--output", to, "--quiet")
        rows = json.loads(to.read_text())
        assert len(rows) == 8
        assert set(rows[0]) == {"image_id", "caption"}
        assert "--export" in fails("evaluate", run, "--output", to, code=2)

    def test_what_is_missing_is_named(self, run: Path, fails: Any) -> None:
        assert "no split 'night'" in fails("evaluate", run, "--split", "night")
        assert "--data" in fails("evaluate", run / "best.h5", code=2)
        assert "no such file" in fails("evaluate", run, "--features", "none.h5")

    def test_features_of_another_encoder_are_refused(
        self, run: Path, scenes: Path, tmp_path: Path, invoke: Any, fails: Any
    ) -> None:
        other = tmp_path / "other.h5"
        encoder = ("--encoder", "tiny-imagenet", "--encoder-weights", "random")
        result = invoke("features", scenes, *encoder, "--layer", "block7", "--to", other, "-q")
        assert result.exit_code == 0, result.output
        line = fails("evaluate", run, "--features", other)
        assert "block7" in line
        assert "block5" in line


class TestTrain:
    def test_misuse(self, scenes: Path, tmp_path: Path, fails: Any) -> None:
        to = ("--to", tmp_path / "run")
        assert "DATA" in fails("train", *to, code=2)
        assert "--to" in fails("train", scenes, code=2)
        assert "show-tell has" in fails("train", scenes, *to, "--attention", 3, code=2).replace(
            "show-tell, which has", "show-tell has"
        )
        assert "did you mean 'adam'" in fails("train", scenes, *to, "--optimizer", "adm", code=2)
        assert "cosine" in fails("train", scenes, *to, "--schedule", "cosin", code=2)
        assert "did you mean" in fails("train", scenes, *to, "--recipe", "show-tell-scene")
        assert "epochs" in fails("train", scenes, *to, "--set", "training.epoch=3", code=2)
        assert "KEY=VALUE" in fails("train", scenes, *to, "--set", "lr", code=2)
        assert "no layer 'blok5'" in fails("train", scenes, *to, "--layer", "blok5")
        assert "--encoder-weights" in fails("train", scenes, *to, "--encoder", "vgg16", code=2)
        assert not (tmp_path / "run").exists()

    @pytest.mark.slow
    def test_fine_tuning_goes_on_from_features_of_an_earlier_layer(
        self, scenes: Path, tmp_path: Path, invoke: Any, fails: Any
    ) -> None:
        encoder = ("--encoder", "tiny-imagenet", "--encoder-weights", "random")
        kept, first, second = tmp_path / "kept.h5", tmp_path / "first", tmp_path / "second"
        result = invoke("features", scenes, *encoder, "--layer", "block6", "--to", kept, "--quiet")
        assert result.exit_code == 0, result.output
        small = (
            "--words",
            8,
            "--hidden",
            8,
            "--batch",
            32,
            "--epochs",
            1,
            "--quiet",
        )  # former name
        tune = (*encoder, "--layer", "block8", "--features", kept, *small)
        result = invoke("train", scenes, *tune, "--finetune", "block7", "--to", first)
        assert result.exit_code == 0, result.output
        config = json.loads((first / "config.json").read_text())
        assert config["objective"]["from_layer"] == "block6"  # as the file says
        assert config["features"] == str(kept)
        lost = (*tune, "--features", tmp_path / "typo.h5", "--finetune", "block7")
        assert "--from-layer" in fails("train", scenes, *lost, "--to", tmp_path / "x")
        late = fails("train", scenes, *tune, "--finetune", "block6", "--to", tmp_path / "x")
        assert "values of block6 are too late to train block6" in late
        # Trained further, it begins with the encoder as it was learned.
        line = fails("train", scenes, *tune, "--from", first, "--to", second)
        assert "was trained together with its encoder, from block7 on" in line
        line = fails("train", scenes, *tune, "--from", first, "--self-critical", "--to", second)
        assert "cannot go on by self critical training" in line
        still = ("--finetune", "block7", "--from", first, "--lr", 0, "--to", second)
        result = invoke("train", scenes, *tune, *still)
        assert result.exit_code == 0, result.output
        one, two = (storage.load(folder / "best.h5")[1] for folder in (first, second))
        assert one.keys() == two.keys()
        for name, array in one.items():
            np.testing.assert_array_equal(two[name], array, err_msg=name)

    def test_a_run_is_not_overwritten(self, scenes: Path, run: Path, fails: Any) -> None:
        from cli_encoder import ENCODER

        line = fails("train", scenes, "--to", run, *ENCODER)
        assert "--resume" in line

    def test_resume(self, run: Path, tmp_path: Path, invoke: Any, fails: Any) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(run, copy)
        words = ("--resume", copy, "--epochs", 3, "--set", "lr=0.002", "--json", "--quiet")
        result = invoke("train", *words)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["epochs"] == 3
        log = [json.loads(line) for line in (copy / "log.jsonl").read_text().splitlines()]
        assert {"lr": 0.002, "epochs": 3}.items() <= next(
            record["resumed_with"] for record in log if "resumed_with" in record
        ).items()
        assert "cannot change" in fails("train", "--resume", copy, "--hidden", 9, code=2)
        assert "not a run folder" in fails("train", "--resume", tmp_path)

    def test_resume_with_other_data(
        self, run: Path, tmp_path: Path, invoke: Any, fails: Any
    ) -> None:
        other = tmp_path / "other.h5"
        counts = ("--train", 20, "--dev", 4, "--test", 4)
        invoke("prepare", "scenes", "--to", other, *counts, "--seed", 8, "--quiet")
        assert "hash" in fails("train", other, "--resume", run)

    def test_disk_full_while_saving(
        self, scenes: Path, tmp_path: Path, monkeypatch: Any, fails: Any
    ) -> None:
        from cli_encoder import ENCODER

        def full(*_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        line = fails(
            "train", scenes, "--to", tmp_path / "full", *ENCODER, "--embedding", 8, "--hidden", 8,
            "--epochs", 1,
        )  # fmt: skip
        assert "full" in line
        assert not (tmp_path / "full" / "best.h5").exists()


class TestInspect:
    def test_each_kind(self, run: Path, scenes: Path, invoke: Any) -> None:
        features = next(scenes.parent.glob("*.features.h5"))
        kinds = {scenes: "captions", features: "features", run / "best.h5": "model", run: "run"}
        for path, kind in kinds.items():
            document = json.loads(invoke("inspect", path, "--json").stdout)
            assert document["type"] == kind
            text = invoke("inspect", path).stdout
            assert str(path) in text

    def test_weights(self, tmp_path: Path, invoke: Any) -> None:
        np.savez(tmp_path / "w.npz", a=np.ones((2, 3), np.float32))
        document = json.loads(invoke("inspect", tmp_path / "w.npz", "--json").stdout)
        assert document["arrays"] == {"a": {"shape": [2, 3], "dtype": "float32"}}

    def test_a_network(self, invoke: Any) -> None:
        assert "block5" in invoke("inspect", "tiny-imagenet").stdout

    def test_what_is_nothing_of_that(self, tmp_path: Path, fails: Any) -> None:
        (tmp_path / "note.txt").write_text("hello")
        assert "no weight file" in fails("inspect", tmp_path / "note.txt")
        assert "does not exist" in fails("inspect", tmp_path / "none")


class Touch:
    """Unpickled by a careless reader, it makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def test_a_hostile_weight_file_is_refused_and_not_executed(
    tmp_path: Path, photographs: Path, fails: Any
) -> None:
    import pickle

    marker = tmp_path / "executed"
    evil = tmp_path / "evil.pth"
    evil.write_bytes(pickle.dumps({"conv": Touch(str(marker))}))
    line = fails("inspect", evil)
    assert "evil.pth" in line
    line = fails("classify", photographs, "--encoder", "squeezenet", "--encoder-weights", evil)
    assert "evil.pth" in line
    assert not marker.exists()
