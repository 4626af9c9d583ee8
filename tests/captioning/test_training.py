"""Training runs: a folder that captions, scores, explains itself and refuses what does not fit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from captioning_cases import LAYER, make_cache, make_data, make_step

import dlmie
from dlmie import captioning as hub
from dlmie import optim
from dlmie.captioning import reports
from dlmie.captioning.decoding import Decoding, force
from dlmie.captioning.evaluation import reference_words
from dlmie.captioning.features import feature_path, make_features
from dlmie.captioning.photographs import caption_images
from dlmie.captioning.step import CaptioningStep
from dlmie.captioning.step import compile as compile_step
from dlmie.captioning.task import dev_loss
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.extraction import Features
from dlmie.data.captions.vocabulary import END, SPECIAL, START, UNK, Vocabulary
from dlmie.data.scenes import prepare_scenes
from dlmie.errors import DataError, DlmieError, WeightsError
from dlmie.files import containers as storage
from dlmie.models import encoder
from dlmie.models.captioners.show_attend_tell import ShowAttendTell
from dlmie.models.captioners.show_tell import ShowTell
from dlmie.training.runs import Run, resume, train

OPTIONS: dict[str, Any] = {
    "epochs": 2, "batch": 16, "monitor": "dev_loss", "decoding": {"beam": 2}, "progress": False
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def data(folder: Path) -> Captions:
    return make_data(folder)


@pytest.fixture(scope="module")
def cache(data: Captions, folder: Path) -> Features:
    return make_cache(data, folder / "blocks.h5")


@pytest.fixture(scope="module")
def run(data: Captions, folder: Path) -> Run:
    """Attention over the grid of a SqueezeNet that exists nowhere else."""
    network = encoder("squeezenet", size=32, weights=None)
    step = make_step(data, network[LAYER], attend=True, alpha_penalty=0.5, label_smoothing=0.1)
    return train(step, data, to=folder / "run", **OPTIONS)


@pytest.fixture(scope="module")
def plain(data: Captions, cache: Features, folder: Path) -> Run:
    """Show and Tell on features whose encoder is out of reach."""
    step = make_step(data, cache.shape)
    return train(step, data, to=folder / "plain", features=cache, keep_epochs=True, **OPTIONS)


def copy(run: Run, to: Path) -> Path:
    return Path(shutil.copytree(run.folder, to / "run"))


def test_the_model_of_each_epoch_is_kept(plain: Run, run: Run) -> None:
    kept = sorted((plain.folder / "epochs").iterdir())
    assert [path.name for path in kept] == ["0001.h5", "0002.h5"]
    best = storage.load(plain.folder / "best.h5")[1]
    of_epoch = [storage.load(path)[1] for path in kept]
    equal = [all(np.array_equal(found[n], best[n]) for n in best) for found in of_epoch]
    assert equal == [epoch == plain.position.best_epoch for epoch in (1, 2)]
    assert not (run.folder / "epochs").exists()


def test_a_run_is_a_folder(run: Run, data: Captions) -> None:
    assert {p.name for p in run.folder.iterdir()} == {
        "config.json", "log.jsonl", "state.h5", "best.h5"
    }  # fmt: skip
    config = json.loads((run.folder / "config.json").read_text())
    assert config["data"]["hash"] == data.hash
    assert config["objective"]["alpha_penalty"] == 0.5
    epochs = [r for r in run.log if "epoch" in r]
    assert [r["epoch"] for r in epochs] == [1, 2]
    assert epochs[1]["loss"] < epochs[0]["loss"] < np.log(len(data.vocabulary)) + 1
    for key in ("dev_loss", "perplexity", "bleu_1", "bleu_4", "cider_d", "seconds", "step"):
        assert key in epochs[0]
    assert run.position.best == min(r["dev_loss"] for r in epochs)
    assert run.position.step == 2 * -(-len(data["train"].tokens) // 16)


def test_features_are_made_once_beside_the_data(run: Run, data: Captions) -> None:
    config = json.loads((run.folder / "config.json").read_text())
    path = feature_path(data, config["encoder"])
    assert Path(config["features"]) == path.resolve()
    assert Features(path).shape == (64, 7, 7)
    assert feature_path(data, {**config["encoder"], "size": 99}) != path
    inner = feature_path(data, {**config["encoder"], "layer": "fire2/squeeze"})
    assert inner.parent == path.parent


def test_the_folder_is_all_that_captioning_needs(run: Run, data: Captions, tmp_path: Path) -> None:
    captioner = dlmie.load(copy(run, tmp_path))
    pictures = list(data["dev"].load_images(range(3)))
    best, *others = captioner(pictures[0], beam=3, n_best=2)
    assert best.text == data.vocabulary.text(best.words)
    assert best.score >= others[0].score
    assert best.alphas is not None
    assert best.alphas.shape == (len(best.words), 7, 7)
    np.testing.assert_allclose(best.alphas.sum(axis=(1, 2)), 1, rtol=1e-5)
    together = captioner(pictures, beam=3, n_best=2)
    assert together[0][0].words == best.words
    # What was cached for training and what is computed now are the same up to float16.
    config = json.loads((run.folder / "config.json").read_text())
    cached = Features(config["features"]).read("dev", [0, 1, 2])
    np.testing.assert_allclose(captioner.features(pictures)[0], cached, rtol=2e-3, atol=2e-3)


def test_a_said_sentence_has_its_log_probability(run: Run, data: Captions) -> None:
    captioner = dlmie.load(run.folder)
    picture = data["dev"].load_images([0])[0]
    told = captioner.force(picture, "A red STAR, above a zebra.")
    words = data.vocabulary.encode(["a", "red", "star", "above", "a", "zebra"])
    assert told.words == words
    assert words[-1] == UNK
    assert told.text == data.vocabulary.text(words)
    tokens = np.asarray([[START, *words, END]], np.int32)
    loss, count = captioner.model.loss_function(captioner.features([picture])[0], tokens)
    assert count == 7
    assert told.log_probability == pytest.approx(-float(loss), abs=1e-4)
    with pytest.raises(DlmieError, match="no words"):
        captioner.force(picture, "...")


def test_evaluating_from_features_and_from_pictures_agrees(run: Run, data: Captions) -> None:
    config = json.loads((run.folder / "config.json").read_text())
    seen = dlmie.evaluate(run.folder, data["dev"], beam=2)
    read = dlmie.evaluate([run.folder], data["dev"], features=config["features"], beam=2)
    for split, found in ((data, "Captions"), ("dev", "str"), (str(data.path), "str")):
        with pytest.raises(
            DlmieError, match=f"a captioner is scored on a split, .* not on {found}"
        ):
            dlmie.evaluate(run.folder, split)
    assert seen.captions == read.captions
    assert seen.bleu_1 == read.bleu_1
    assert seen.protocol["decoding"].startswith("beam 2")
    assert seen.protocol["split"] == "dev"
    logged = max((r for r in run.log if r.get("best")), key=lambda r: r["epoch"])
    assert logged["bleu_1"] == seen.bleu_1  # best.h5 is what was measured


def test_features_of_something_else_are_refused(
    run: Run, data: Captions, cache: Features, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"blocks\.h5: does not fit: encoder\.name is 'nobody'"):
        dlmie.evaluate(run.folder, data["dev"], features=cache)
    other = prepare_scenes(tmp_path / "o.h5", seed=5, train=4, dev=1, test=1, progress=False)
    step = make_step(other, cache.shape)
    with pytest.raises(DataError, match="does not fit: data is"):
        train(step, other, to=tmp_path / "x", features=cache, **OPTIONS)
    assert not (tmp_path / "x").exists()


def test_the_averaged_weights_are_what_is_saved(plain: Run) -> None:
    _, best = storage.load(plain.folder / "best.h5")
    _, state = storage.load(plain.folder / "state.h5")
    assert plain.position.best_epoch == plain.position.epoch == 2
    for name, array in best.items():
        np.testing.assert_array_equal(array, state[f"/optimizer/ema/average{name}"])
        assert not np.array_equal(array, state[name])


def test_an_encoder_out_of_reach_is_named(plain: Run, data: Captions) -> None:
    captioner = dlmie.load(plain.folder)
    with pytest.raises(DlmieError, match=r"encoder nobody are no longer at /nowhere/weights\.h5"):
        captioner(data["dev"].load_images([0])[0])
    cached = Features(json.loads((plain.folder / "config.json").read_text())["features"])
    assert len(dlmie.evaluate(captioner, data["dev"], features=cached).captions) == 6


def test_a_model_without_an_encoder_says_so(
    plain: Run, data: Captions, cache: Features, tmp_path: Path
) -> None:
    model = dlmie.load(plain.folder).model
    blind = dlmie.load(hub.save_model(model, tmp_path / "blind.h5", encoder=None))
    for features in (None, cache):
        with pytest.raises(WeightsError, match=r"blind\.h5 names no encoder"):
            dlmie.evaluate(blind, data["dev"], features=features)
    with pytest.raises(WeightsError, match=r"blind\.h5 names no encoder"):
        blind(data["dev"].load_images([0])[0])
    path = tmp_path / "garbled.h5"
    arrays = {str(p.name): p.get_value() for p in model.parameters}
    storage.save(path, arrays, {**blind.header, "encoder": [1]})
    with pytest.raises(WeightsError, match=r"garbled\.h5: encoder must be a mapping"):
        dlmie.load(path)
    huge = {**blind.header["config"], "hidden": 10**14}
    storage.save(path, arrays, {**blind.header, "config": huge})
    with pytest.raises(
        WeightsError, match=r"garbled\.h5 has an incomplete or damaged .*Unable to allocate"
    ):
        dlmie.load(path)


def test_a_model_splits_sentences_as_its_data_were_split(tmp_path: Path) -> None:
    vocabulary = Vocabulary([*SPECIAL, "A", "dog", "."], tokenizer="whitespace")
    model = ShowTell((5,), vocabulary, embedding=2, hidden=2)
    captioner = dlmie.load(hub.save_model(model, tmp_path / "m.h5", encoder=None))
    captioner.features = lambda images: [np.zeros((1, 5), np.float32)]
    assert captioner.force(None, "A dog .").words == [4, 5, 6]
    references = SimpleNamespace(references=[["A dog .", "a dog"]])
    assert reference_words(references, captioner.vocabulary) == [[["A", "dog", "."], ["a", "dog"]]]


@pytest.mark.parametrize(
    ("tokenizer", "contract", "expected"),
    [("words", 2, 1.0), ("words", 1, np.exp(-1 / 5) * 4 / 5), ("whitespace", 2, 2 / 5)],
)
def test_captions_are_scored_by_the_tokenizer_of_their_captioner(
    tokenizer: str, contract: int, expected: float
) -> None:
    vocabulary = Vocabulary([*SPECIAL, "a"], tokenizer, contract)
    captioner = SimpleNamespace(vocabulary=vocabulary, members=[])
    split = SimpleNamespace(
        name="dev",
        hash="x",
        names=["a", "b"],
        source={},
        objects=None,
        references=[["A dog’s ball"], ["Two dogs"]],
    )
    said = [SimpleNamespace(text="a dog's ball"), SimpleNamespace(text="two dogs")]
    scores = hub.score_captions(captioner, split, said, Decoding())
    assert scores.bleu_1 == pytest.approx(expected)
    assert scores.protocol["tokenizer"] == tokenizer
    assert scores.protocol["tokenizer_contract"] == contract
    assert ("(contract 1)" in scores.protocol_line) == (contract == 1)
    other = hub.score_captions(captioner, split, said, Decoding(), tokenizer="words")
    assert other.bleu_1 == 1.0


def test_models_of_dlmie_0_1_0_split_as_they_did(tmp_path: Path) -> None:
    model = ShowTell((5,), Vocabulary([*SPECIAL, "a"]), embedding=2, hidden=2)
    path = hub.save_model(model, tmp_path / "m.h5", encoder=None)
    assert dlmie.load(path).vocabulary.contract == 2
    header, arrays = storage.load(path)
    del header["tokenizer_contract"]
    storage.save(tmp_path / "old.h5", arrays, header)
    assert dlmie.load(tmp_path / "old.h5").vocabulary.contract == 1


def test_an_ensemble_averages_probabilities(run: Run, data: Captions, tmp_path: Path) -> None:
    picture = data["dev"].load_images([1])[0]
    one = dlmie.load(run.folder)
    twice = dlmie.load([run.folder, run.folder / "best.h5"])
    assert len(twice.members) == 2
    a, b = one(picture, beam=2)[0], twice(picture, beam=2)[0]
    assert a.words == b.words
    assert a.log_probability == pytest.approx(b.log_probability, abs=1e-5)
    np.testing.assert_allclose(a.alphas, b.alphas, atol=1e-6)
    other = Vocabulary.build([["another", "vocabulary"]], min_count=1)
    model = ShowTell((5,), other, embedding=2, hidden=2)
    path = hub.save_model(model, tmp_path / "other.h5", encoder=one.header["encoder"])
    with pytest.raises(DataError, match="two different vocabularies"):
        dlmie.load([run.folder, path])


@pytest.mark.parametrize("options", [{"score": "relu"}, {"hard": True}, {"dropout": 0.4}])
def test_models_that_compute_differently_are_not_averaged(
    options: dict[str, Any], tmp_path: Path
) -> None:
    words = Vocabulary([*SPECIAL, "a"])
    sizes: dict[str, Any] = {"embedding": 2, "hidden": 2, "attention": 2}
    paths = [
        hub.save_model(
            ShowAttendTell((5, 2, 2), words, **sizes, **more), tmp_path / name, encoder=None
        )
        for name, more in (("one.h5", {}), ("other.h5", options))
    ]
    if "dropout" in options:  # which is only of training
        hub.export(paths, tmp_path / "mean.h5")
    else:
        with pytest.raises(DlmieError, match=r"cannot be averaged: .*(score tanh|hard False)"):
            hub.export(paths, tmp_path / "mean.h5")


def test_a_report_shows_the_curves_of_the_run_that_made_the_model(tmp_path: Path) -> None:
    for name in ("best.h5", "other.h5", "config.json"):
        (tmp_path / name).touch()
    (tmp_path / "log.jsonl").write_text('{"epoch": 1}\n')
    assert reports._learned(tmp_path / "best.h5") == [{"epoch": 1}]
    assert reports._learned(tmp_path / "other.h5") == []
    (tmp_path / "config.json").unlink()
    assert reports._learned(tmp_path / "best.h5") == []


def test_an_exported_captioner_sees_image_and_mirror_image(
    run: Run, data: Captions, tmp_path: Path
) -> None:
    one = dlmie.load(run.folder)
    path = hub.export(run.folder, tmp_path / "both.h5", dtype=None, average_flip=True)
    both = dlmie.load(path)
    pictures = list(data["dev"].load_images(range(3)))
    mirrored = [picture[:, ::-1] for picture in pictures]
    (seen,), (flipped,) = one.features(pictures), one.features(mirrored)
    (mean,) = both.features(pictures)
    np.testing.assert_allclose(mean, (seen + flipped[..., ::-1]) / 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(both.features(mirrored)[0], mean[..., ::-1], rtol=1e-5, atol=1e-6)
    assert np.abs(mean - seen).max() > 1e-3
    kept = dlmie.load(hub.export(path, tmp_path / "again.h5", dtype=None))
    np.testing.assert_array_equal(kept.features(pictures)[0], mean)
    again = dlmie.load(hub.export(path, tmp_path / "no.h5", dtype=None, average_flip=False))
    np.testing.assert_array_equal(again.features(pictures)[0], seen)
    # From a cache, too: it must hold the mirror images.
    network = both.members[0].encoder.network
    to = tmp_path / "features.h5"
    options: dict[str, Any] = {"dtype": "float32", "progress": False}
    plain = make_features(data, network, LAYER, to=to, **options)
    with pytest.raises(DataError, match=r"features\.h5 holds no .*both\.h5 averages: .*--flip"):
        dlmie.evaluate(both, data["dev"], features=plain)
    cache = make_features(data, network, LAYER, to=to, flip=True, overwrite=True, **options)
    read = hub.split_reader(dlmie.load([run.folder, path]), data["dev"], cache)
    own, averaged = read(np.arange(3))
    np.testing.assert_allclose(own, seen, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(averaged, mean, rtol=1e-5, atol=1e-6)
    from_cache, from_images = (
        dlmie.evaluate(both, data["dev"], features=features) for features in (cache, None)
    )
    assert from_cache.captions == from_images.captions
    assert "annotations: the mean of image and mirror image" in from_images.protocol_line
    assert "annotations" not in dlmie.evaluate(one, data["dev"]).protocol_line


def test_a_model_file_says_how_its_captions_are_found(
    run: Run, data: Captions, tmp_path: Path
) -> None:
    assert dlmie.load(run.folder).decoding() == Decoding()
    own = {"length_norm": 0.5, "no_repeat_ngram": 2, "beam": 3}
    path = hub.export(run.folder, tmp_path / "own.h5", decoding=own)
    path = hub.export(path, tmp_path / "again.h5", decoding={"beam": 2})  # the rest is kept
    captioner = dlmie.load(path)
    expected = Decoding(length_norm=0.5, no_repeat_ngram=2, beam=2)
    assert captioner.decoding() == expected
    assert captioner.decoding(beam=1, min_length=3) == replace(expected, beam=1, min_length=3)
    scores = dlmie.evaluate(captioner, data["dev"])
    assert scores.protocol["decoding"] == expected.describe()
    changed = dlmie.evaluate(captioner, data["dev"], length_norm=0.0)
    assert changed.protocol["decoding"] == replace(expected, length_norm=0.0).describe()
    picture = data["dev"].load_images([0])[0]
    assert captioner(picture)[0].text == scores.captions[0]
    assert next(caption_images(captioner, [picture]))[1][0].text == scores.captions[0]
    with pytest.raises(DlmieError, match=r"min_length.* \(.*again\.h5 says: .*length_norm 0\.5"):
        captioner.decoding(min_length=30)
    for wrong in ({"beams": 2}, {"min_length": 30}):
        with pytest.raises(DlmieError, match=r"beams|min_length"):
            hub.export(path, tmp_path / "wrong.h5", decoding=wrong)
    assert not (tmp_path / "wrong.h5").exists()
    header, arrays = storage.load(path)
    for garbled in ({"beams": 2}, {"max_length": 0}, [1], "beam"):
        storage.save(tmp_path / "garbled.h5", arrays, {**header, "decoding": garbled})
        with pytest.raises(
            WeightsError, match=r"garbled\.h5 has a damaged description of its decoding"
        ):
            dlmie.load(tmp_path / "garbled.h5").decoding()


def test_float16_storage_halves_the_file_and_captions_alike(
    plain: Run, data: Captions, cache: Features, tmp_path: Path
) -> None:
    captioner = dlmie.load(plain.folder)
    small = hub.save_model(
        captioner.model, tmp_path / "small.h5", encoder=captioner.header["encoder"], dtype="float16"
    )
    assert small.stat().st_size < 0.75 * (plain.folder / "best.h5").stat().st_size
    again = dlmie.load(small)
    for p, q in zip(captioner.model.parameters, again.model.parameters, strict=True):
        assert q.get_value().dtype == np.float32
        np.testing.assert_allclose(p.get_value(), q.get_value(), rtol=1e-3, atol=1e-6)
    captioner.model.parameters[0].set_value(captioner.model.parameters[0].get_value() * 1e9)
    with pytest.raises(DlmieError, match="/embedding/W does not fit into float16"):
        hub.save_model(captioner.model, tmp_path / "x.h5", encoder=None, dtype="float16")


# -- resuming --------------------------------------------------------------------------------------


def test_a_run_that_dies_at_once_resumes_with_what_it_began_with(
    data: Captions, cache: Features, tmp_path: Path
) -> None:
    def begin(folder: str, **options: Any) -> Run:
        step = make_step(data, cache.shape, seed=3)
        for p in step.model.parameters:
            p.set_value(p.get_value() + 0.01)  # of another captioner, say
        return train(step, data, to=tmp_path / folder, features=cache, **{**OPTIONS, **options})

    def die(*_: Any) -> None:
        raise RuntimeError("dies")

    whole = begin("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CaptioningStep, "__call__", die)
        with pytest.raises(RuntimeError, match="dies"):
            begin("dead")
    resume(tmp_path / "dead", progress=False)
    one, two = (storage.load(f / "state.h5")[1] for f in (whole.folder, tmp_path / "dead"))
    for name, array in one.items():
        np.testing.assert_array_equal(two[name], array, err_msg=name)
    # Killed before even that: only what is drawn from the seed comes back.
    config = json.loads((tmp_path / "dead" / "config.json").read_text())
    config["meta"]["start"] = "runs/another"
    (tmp_path / "dead" / "config.json").write_text(json.dumps(config))
    (tmp_path / "dead" / "state.h5").unlink()
    with pytest.raises(DlmieError, match=r"stopped before the weights .*delete it"):
        resume(tmp_path / "dead", progress=False)


def test_resuming_with_changes_says_so(plain: Run, tmp_path: Path) -> None:
    folder = copy(plain, tmp_path)
    again = resume(folder, epochs=3, set={"lr": 1e-3, "patience": 4}, progress=False)
    assert again.position.epoch == 3
    (said,) = [r for r in again.log if "resumed_with" in r]
    assert said["resumed_with"] == {"lr": 1e-3, "patience": 4, "epochs": 3}
    assert said["step"] == plain.position.step
    config = json.loads((folder / "config.json").read_text())
    assert (config["training"]["epochs"], config["training"]["patience"]) == (3, 4)
    _, state = storage.load(folder / "state.h5")
    assert state["/optimizer/learning_rate"] == np.float32(1e-3)
    # Unchanged, there is nothing to do, which is said, and nothing is written.
    before = (folder / "log.jsonl").read_bytes()
    same = resume(folder, epochs=3, progress=False)
    assert same.position.step == again.position.step
    assert same.stop_reason == "its 3 epochs are done (more with --epochs)"
    assert (folder / "log.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 1}, "cannot set 'learning_rate'.*known: lr, epochs"),
        ({"monitor": "bleu4"}, "cannot monitor 'bleu4'; did you mean 'bleu_4'"),
        ({"patience": "3"}, "patience must be a whole number, at least 1, not '3'"),
        ({"batch": 0}, "batch must be a whole number"),
        ({"decoding": {"beams": 3}}, "decoding: .*'beams'"),
        ({"lr": "small"}, "lr must be a number, not 'small'"),
        ({"flip": True}, "do not mirror or crop scenes"),
    ],
)
def test_bad_changes_change_nothing(
    plain: Run, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = copy(plain, tmp_path)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(DlmieError, match=message):
        resume(folder, set=changes, progress=False)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_other_data_and_lost_features_are_named(plain: Run, data: Captions, tmp_path: Path) -> None:
    folder = copy(plain, tmp_path)
    other = prepare_scenes(tmp_path / "o.h5", seed=5, train=4, dev=1, test=1, progress=False)
    with pytest.raises(DataError, match=r"o\.h5 is not the data this run was trained on"):
        resume(folder, data=other.path, progress=False)
    config = json.loads((folder / "config.json").read_text())
    config["features"] = str(tmp_path / "gone.h5")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=r"gone\.h5, the features this run was trained on, was not"):
        resume(folder, progress=False)
    # Beside the data they are found again.
    beside = feature_path(data, config["encoder"])
    shutil.copy(json.loads((plain.folder / "config.json").read_text())["features"], beside)
    try:
        assert resume(folder, progress=False).position.step == plain.position.step
    finally:
        beside.unlink()


def test_damaged_runs_are_named(plain: Run, tmp_path: Path) -> None:
    with pytest.raises(DlmieError, match="is not a run folder"):
        resume(tmp_path)
    folder = copy(plain, tmp_path)
    state = folder / "state.h5"
    state.write_bytes(state.read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"state\.h5 .* truncated"):
        resume(folder, progress=False)
    (folder / "config.json").write_text("{")
    with pytest.raises(DlmieError, match=r"config\.json is damaged"):
        resume(folder)
    (folder / "config.json").write_text('{"format": "dlmie-run", "version": 3}')
    with pytest.raises(DlmieError, match="later version of dlmie"):
        resume(folder)


# -- what train refuses before it begins -----------------------------------------------------------


def test_misuse_is_found_before_training(
    plain: Run, data: Captions, cache: Features, tmp_path: Path
) -> None:
    step = make_step(data, cache.shape)

    def start(**options: Any) -> Run:
        return train(step, data, to=tmp_path / "x", **{**OPTIONS, "features": cache, **options})

    with pytest.raises(DlmieError, match="holds a run already: continue it with dlmie train --re"):
        train(step, data, to=plain.folder, features=cache, **OPTIONS)
    with pytest.raises(DlmieError, match="cannot monitor 'bleu4'; did you mean 'bleu_4'"):
        start(monitor="bleu4")
    with pytest.raises(DlmieError, match="do not mirror or crop scenes: their captions say left"):
        start(flip=True)
    with pytest.raises(DlmieError, match="decoding: "):
        start(decoding={"beams": 2})
    with pytest.raises(DlmieError, match=r"made from a bare shape: give features="):
        start(features=None)
    with pytest.raises(DlmieError, match=r"to embed the encoder, make the model from its layer"):
        start(embed_encoder=True)
    with pytest.raises(DataError, match=r"absent\.h5: no such file"):
        start(features=tmp_path / "absent.h5")
    words = Vocabulary.build([["other"]], min_count=1)
    other = compile_step(ShowTell(cache.shape, words, embedding=2, hidden=2), optim.adam())
    with pytest.raises(DataError, match="two different vocabularies: 5 words here"):
        train(other, data, to=tmp_path / "x", features=cache, **OPTIONS)
    assert not (tmp_path / "x").exists()


def test_without_dev_the_training_loss_decides(tmp_path: Path) -> None:
    data = prepare_scenes(tmp_path / "s.h5", train=4, dev=0, test=0, size=32, progress=False)
    cache = make_cache(data, tmp_path / "f.h5")
    step = make_step(data, cache.shape)
    if "dev" not in data:
        with pytest.raises(DataError, match="has no split dev to measure dev_loss: monitor loss"):
            train(step, data, to=tmp_path / "x", features=cache, **OPTIONS)
    run = train(step, data, to=tmp_path / "run", features=cache, **{**OPTIONS, "monitor": "loss"})
    assert run.position.best_epoch == 2
    assert (run.folder / "best.h5").exists()


def test_patience_ends_a_run_and_a_resumed_one_alike(
    data: Captions, cache: Features, tmp_path: Path
) -> None:
    # Nothing learns at a rate of 0, so nothing improves.
    model = ShowTell(cache.shape, data.vocabulary, embedding=8, hidden=12, dropout=0.2)
    step = compile_step(model, optim.sgd(0.0))
    step.progress = False
    options = {**OPTIONS, "epochs": 9, "patience": 2, "limit": 3}
    run = train(step, data, to=tmp_path / "run", features=cache, **options)
    assert run.position.epoch == 3
    assert run.stop_reason is not None
    assert "dev_loss has not improved for 2 epochs" in run.stop_reason
    again = resume(run.folder, progress=False)
    assert again.position.epoch == 3
    assert again.stop_reason == run.stop_reason
    # Told to go on, it has patience anew.
    assert resume(run.folder, set={"patience": 1}, progress=False).position.epoch == 4


def test_the_loss_decoded_step_by_step_is_dev_loss(plain: Run, data: Captions) -> None:
    captioner = dlmie.load(plain.folder)
    cached = Features(json.loads((plain.folder / "config.json").read_text())["features"])
    split = data["dev"]
    total, words = 0.0, 0
    for tokens, image in zip(split.tokens, split.token_image, strict=True):
        step, state = captioner.model.decoder.begin(cached.read("dev", [image]))
        (said,) = force(step, state, [tokens[1:-1].tolist()])
        total, words = total - said.log_probability, words + len(tokens) - 1
    logged = [r["dev_loss"] for r in plain.log if r.get("best")][-1]
    assert total / words == pytest.approx(logged, rel=1e-5)
    read = dev_loss(captioner.model, split, lambda i: cached.read("dev", i), block=2)
    assert read["dev_loss"] == pytest.approx(logged, rel=1e-6)
    assert Decoding(**OPTIONS["decoding"]).beam == 2
