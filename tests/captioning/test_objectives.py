"""Training steps: fine-tuning, self-critical training, and the overfit self-check."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captioning_cases import make_cache, make_data, make_network_step
from captioning_cases import make_step as make_case

import dlmie
from dlmie import captioning as hub
from dlmie import optim
from dlmie.captioning.evaluation import reference_words
from dlmie.captioning.features import make_features
from dlmie.captioning.overfitting import overfit
from dlmie.captioning.step import CaptioningStep, distill, make_step, reinforce, targets_of
from dlmie.captioning.step import compile as compile_step
from dlmie.data.batches import Batch, Batches
from dlmie.data.captions.dataset import Captions, Split
from dlmie.data.captions.extraction import Features
from dlmie.data.captions.vocabulary import END, START, Vocabulary
from dlmie.errors import DataError, DlmieError
from dlmie.files import containers as storage
from dlmie.models import encoder
from dlmie.models.captioners.show_attend_tell import ShowAttendTell
from dlmie.models.captioners.show_tell import ShowTell
from dlmie.ops.losses.cross_entropy import log_softmax
from dlmie.training.runs import resume, train
from dlmie.training.step import StepResult

OPTIONS: dict[str, Any] = {
    "epochs": 1, "batch": 24, "monitor": "dev_loss", "decoding": {"beam": 2}, "progress": False
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Captions:
    return make_data(tmp_path_factory.mktemp("steps"))


@pytest.fixture(scope="module")
def cache(data: Captions) -> Features:
    return make_cache(data, data.path.with_name("blocks.h5"))


def test_fine_tuning_trains_from_the_layer_on_and_loads_back(
    data: Captions, cache: Features, tmp_path: Path
) -> None:
    step = make_network_step(data)
    encoder = step.model.encoder
    before = {str(p.name): p.get_value() for p in encoder.parameters}
    run = train(step, data, to=tmp_path / "run", **OPTIONS)
    assert json.loads((run.folder / "config.json").read_text())["features"] is None
    moved = {n for n, p in ((str(p.name), p) for p in encoder.parameters)
             if not np.array_equal(p.get_value(), before[n])}  # fmt: skip
    assert moved
    assert all(name.startswith("/squeezenet/fire2") for name in moved)
    inside = [n for n in before if n.startswith("/squeezenet/fire2")]
    assert moved == set(inside)  # what is inside the layer, too

    pictures = list(data["dev"].load_images(range(4)))
    captioner = dlmie.load(run.folder)
    loaded = captioner.members[0].encoder.network
    with step.updates.averaged():
        for p, q in zip(encoder.parameters, loaded.parameters, strict=True):
            np.testing.assert_array_equal(p.get_value(), q.get_value())
    said = [c[0].words for c in captioner(pictures, beam=2)]
    again = [c[0].words for c in dlmie.load(run.folder / "best.h5")(pictures, beam=2)]
    assert said == again
    with pytest.raises(DataError, match="was trained together with its encoder"):
        dlmie.evaluate(captioner, data["dev"], features=cache)


@pytest.fixture
def no_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that may be mirrored: nothing says what stands left or right in them."""
    unknown = property(lambda self: {}, lambda self, value: None)
    monkeypatch.setattr(Split, "source", unknown, raising=False)


def make_tuned(data: Captions, from_layer: str | None = None, **options: Any) -> CaptioningStep:
    """A step that trains the last of two layers of an encoder with weights from a file."""
    network = encoder("squeezenet", size=32, weights=weights_beside(data))
    return make_case(
        data, network["fire3"], finetune="fire3", from_layer=from_layer, encoder_lr=0.5, **options
    )


def weights_beside(data: Captions) -> Path:
    """A file of random weights."""
    path = data.path.with_name("weights.h5")
    if not path.exists():
        network = encoder("squeezenet", size=32, weights=None, seed=3)
        arrays = {str(p.name): p.get_value() for p in network.parameters}
        header = {"network": "squeezenet", "preprocessing": network.preprocessing.to_json()}
        storage.save(path, arrays, header)
    return path


def values(step: CaptioningStep) -> dict[str, np.ndarray]:
    return {str(p.name): p.get_value() for p in step.parameters}


@pytest.fixture(scope="module")
def kept(data: Captions) -> Features:
    """What the layer before the one that is trained says of every image, in four views."""
    network = encoder("squeezenet", size=32, weights=weights_beside(data))
    path = data.path.with_name("fire2.h5")
    options: dict[str, Any] = {"dtype": "float32", "flip": True, "crops": 2, "progress": False}
    return make_features(data, network, "fire2", to=path, **options)


@pytest.mark.usefixtures("no_objects")
def test_fine_tuning_goes_on_from_kept_values_of_a_layer(
    data: Captions, kept: Features, tmp_path: Path
) -> None:
    options = {**OPTIONS, "flip": True, "crops": 2}
    seen = train(make_tuned(data), data, to=tmp_path / "images", **options)
    step = make_tuned(data, "fire2")
    read = train(step, data, to=tmp_path / "kept", features=kept, **options)
    tuned = {n for n in values(step) if n.startswith("/squeezenet")}
    assert tuned
    assert all(name.startswith("/squeezenet/fire3") for name in tuned)
    one, two = (storage.load(run.folder / "best.h5")[1] for run in (seen, read))
    assert one.keys() == two.keys()
    for name, array in one.items():  # the same up to rounding
        np.testing.assert_allclose(two[name], array, rtol=2e-3, atol=2e-4)
    assert seen.log[-1]["dev_loss"] == pytest.approx(read.log[-1]["dev_loss"], rel=1e-3)
    scores = dlmie.evaluate(read.folder, data["dev"], beam=2)  # from photographs
    assert scores.bleu_1 == next(r for r in read.log if "epoch" in r)["bleu_1"]


@pytest.mark.usefixtures("no_objects")
def test_such_a_run_resumes(data: Captions, kept: Features, tmp_path: Path) -> None:
    options = {**OPTIONS, "flip": True, "crops": 1}
    whole = train(
        make_tuned(data, "fire2"), data, to=tmp_path / "whole", features=kept,
        **{**options, "epochs": 2},
    )  # fmt: skip
    parts = train(
        make_tuned(data, "fire2"),
        data,
        to=tmp_path / "parts",
        features=kept,
        **options,
    )
    resume(parts.folder, epochs=2, progress=False)
    one, two = (storage.load(folder / "state.h5")[1] for folder in (whole.folder, parts.folder))
    for name, array in one.items():
        np.testing.assert_array_equal(two[name], array, err_msg=name)


@pytest.mark.usefixtures("no_objects")
def test_what_is_kept_must_fit_the_fine_tuning(
    data: Captions, kept: Features, cache: Features, tmp_path: Path
) -> None:
    for late in ("fire3", "fire3/squeeze", "fire3/squeeze/pre"):
        with pytest.raises(DlmieError, match=f"values of {late} are too late to train fire3"):
            make_tuned(data, late)
    for late in ("pool3", "fire4"):
        with pytest.raises(DlmieError, match=f"fire3 of .* does not follow from values of {late}"):
            make_tuned(data, late)
    with pytest.raises(DlmieError, match=r"values of fire2 are to fine-tune from.*\(finetune\)"):
        make_case(data, (128, 7, 7), from_layer="fire2")
    with pytest.raises(DlmieError, match="has no layer 'fire22'"):
        make_tuned(data, "fire22")
    to = {"to": tmp_path / "run", **OPTIONS}
    with pytest.raises(DataError, match=r"encoder\.layer is 'fire2', not 'pool1'"):
        train(make_tuned(data, "pool1"), data, features=kept, **to)
    with pytest.raises(DataError, match="holds 2 random crops of each image, not 3"):
        train(make_tuned(data, "fire2"), data, features=kept, crops=3, **to)
    report = overfit(make_tuned(data, "fire2"), data, images=3, features=kept, epochs=2)
    assert report.images == 3


def test_a_tuning_pupil_resumes_in_the_middle_of_an_epoch(
    data: Captions, kept: Features, tmp_path: Path
) -> None:
    """The encoder has weights that are in no file: those that the teachers see through, too."""
    sizes: dict[str, Any] = {"embedding": 6, "hidden": 8, "dropout": 0.2}
    network = encoder("squeezenet", size=32, weights=weights_beside(data))
    taught = compile_step(ShowTell(network["fire3"], data.vocabulary, seed=4, **sizes))
    taught.progress = False
    teacher = train(taught, data, to=tmp_path / "teacher", **OPTIONS)

    def pupil() -> CaptioningStep:
        own = encoder("squeezenet", size=32, weights=None, seed=7)
        model = ShowTell(own["fire3"], data.vocabulary, **sizes)
        objective = {
            "kind": "distillation",
            "teachers": [str(teacher.folder)],
            "finetune": "fire3",
            "from_layer": "fire2",
        }
        step = make_step(objective, model, optim.adam(1e-2), data)
        step.progress = False
        return step

    options = {**OPTIONS, "checkpoint_every": 2}
    whole = train(pupil(), data, to=tmp_path / "whole", **options)

    class Dies(CaptioningStep):
        def __call__(self, batch: Batch) -> StepResult:
            if self.updates.state["/optimizer/step"].get_value() == 3:
                raise RuntimeError("dies")
            return super().__call__(batch)

    dying = pupil()
    dying.__class__ = Dies
    with pytest.raises(RuntimeError, match="dies"):
        train(dying, data, to=tmp_path / "parts", **options)
    resume(tmp_path / "parts", progress=False)
    one, two = (storage.load(f / "state.h5")[1] for f in (whole.folder, tmp_path / "parts"))
    assert any(name.startswith("/teachers/") for name in one)
    assert one.keys() == two.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(two[name], array, err_msg=name)


def test_the_mean_of_a_tuned_model_and_of_what_it_was_made_from(
    data: Captions, kept: Features, tmp_path: Path
) -> None:
    step = make_tuned(data, "fire2")
    header = hub.encoder_header(step.model.encoder, "fire3")
    before = hub.save_model(step.model, tmp_path / "before.h5", encoder=header)
    began = {n: v for n, v in values(step).items() if n.startswith("/squeezenet")}
    run = train(step, data, to=tmp_path / "run", features=kept, **OPTIONS)
    path = hub.export([before, run.folder], tmp_path / "mean.h5", dtype=None)
    read, mean = storage.load(path)
    assert read["encoder"]["finetuned"] == "fire3"
    start, end = (storage.load(file)[1] for file in (before, run.folder / "best.h5"))
    assert mean.keys() == end.keys()
    for name, array in mean.items():
        expected = ((start | began)[name] + end[name]) / 2
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-7, err_msg=name)
    pictures = list(data["dev"].load_images(range(2)))
    own, other = (dlmie.load(file).features(pictures)[0] for file in (path, before))
    assert np.abs(own - other).max() > 1e-4


def test_a_fine_tuned_model_cannot_teach(data: Captions, kept: Features, tmp_path: Path) -> None:
    tuned = train(make_tuned(data, "fire2"), data, to=tmp_path / "tuned", features=kept, **OPTIONS)
    objective = {"kind": "distillation", "teachers": [str(tuned.folder)]}
    pupil = ShowTell((128, 7, 7), data.vocabulary, embedding=4, hidden=4)
    with pytest.raises(DlmieError, match="was trained together with its encoder and cannot teach"):
        make_step(objective, pupil, optim.adam(1e-3), data)


def test_teachers_see_through_the_encoder_as_it_was(data: Captions, kept: Features) -> None:
    network = encoder("squeezenet", size=32, weights=weights_beside(data))
    sizes: dict[str, Any] = {"embedding": 6, "hidden": 8, "dropout": 0.0}
    pupil = ShowTell(network["fire3"], data.vocabulary, **sizes)
    step = distill(
        pupil, optim.adam(1e-2), finetune="fire3", from_layer="fire2", encoder_lr=1.0,
        teachers=[ShowTell(pupil.annotation_shape, data.vocabulary, seed=4, **sizes)],
    )  # fmt: skip
    step.progress = False
    shown = dlmie.function([step.annotations.input], step.objective.seen_by_teachers)
    inputs = kept.read("train", [0, 1, 2])
    before = shown(inputs)
    np.testing.assert_allclose(step.annotations.annotate(inputs), before, rtol=1e-5, atol=1e-6)
    tokens = np.asarray([[START, 5, 6, END]] * 3, np.int32)
    index = np.arange(3)
    for _ in range(5):
        step(Batch(inputs, tokens, index, index, np.zeros(3, int)))
    np.testing.assert_array_equal(shown(inputs), before)
    assert np.abs(step.annotations.annotate(inputs) - before).max() > 1e-3
    assert all(p in step.parameters for p in pupil.parameters)


def test_a_pupil_is_shown_where_to_look_as_well(data: Captions) -> None:
    sizes: dict[str, Any] = {"embedding": 4, "hidden": 4, "attention": 3, "dropout": 0.0}
    pupil, teacher = (ShowAttendTell((3, 2, 2), data.vocabulary, seed=n, **sizes) for n in (0, 1))
    ones = np.ones((16, 3, 2, 2), np.float32)
    batch = next(iter(Batches(data["train"], lambda index, views: ones[: len(index)], batch=16)))
    targets = targets_of(pupil, data)
    sums = []
    for options in ({}, {"attention_supervision": 2.0, "attention_entropy": 0.1}):
        step = distill(pupil, optim.sgd(0.0), teachers=[teacher], targets=targets, **options)
        step.progress = False
        assert step.describe() | options == step.describe()
        sums.append(step(batch).sums)
    assert sums[0]["loss"] == pytest.approx(sums[1]["loss"])
    assert sums[1]["attention_loss"] > 0


def test_fine_tuning_from_a_layer_that_plays_no_part(data: Captions) -> None:
    network = encoder("squeezenet", size=32, weights=None)
    with pytest.raises(DlmieError, match="nothing to train from fire5 on: the captioner sees fire"):
        make_case(data, network["fire2"], finetune="fire5")
    with pytest.raises(DlmieError, match="has no layer 'fire22'; did you mean 'fire2'"):
        make_case(data, network["fire2"], finetune="fire22")
    with pytest.raises(DlmieError, match=r"make the model from its layer: net\[...\]"):
        make_case(data, (4, 2, 2), finetune="fire2")


WORDS = [list("abc"), list("bcd"), list("cda"), list("dab"), list("acb"), list("bdc")]


def toy_critic(samples: int = 6) -> tuple[CaptioningStep, Batch]:
    """Six images whose one feature tells their sentence."""
    vocabulary = Vocabulary.build(WORDS, min_count=1)
    model = ShowTell((6,), vocabulary, embedding=12, hidden=16, dropout=0.0, seed=2)
    step = reinforce(
        model, optim.adam(1e-2), references=[[words] for words in WORDS], samples=samples,
        max_length=5, seed=3,
    )  # fmt: skip
    step.progress = False
    tokens = np.asarray([[START, *vocabulary.encode(w), END] for w in WORDS], np.int32)
    index = np.arange(6)
    batch = Batch(np.eye(6, dtype=np.float32), tokens, index, index, np.zeros(6, bool))
    return step, batch


def reward(step: CaptioningStep, batch: Batch) -> float:
    result = step(batch)
    return -result.sums["loss"] / result.weight


def test_self_critical_training_raises_the_reward_and_resumes() -> None:
    step, batch = toy_critic()
    teacher = compile_step(step.model, optim.adam(2e-2))
    teacher.progress = False
    for _ in range(12):
        teacher(batch)
    rewards = [reward(step, batch) for _ in range(40)]
    assert np.mean(rewards[-8:]) > 1.3 * np.mean(rewards[:8])

    # The draws depend on nothing but the saved state.
    saved = {name: np.copy(v.get_value()) for name, v in step.state.items()}
    expected = [reward(step, batch) for _ in range(3)]
    other, _ = toy_critic()
    for name, variable in other.state.items():
        variable.set_value(saved[name])
    assert [reward(other, batch) for _ in range(3)] == expected
    for name, variable in other.state.items():
        np.testing.assert_array_equal(variable.get_value(), step.state[name].get_value())


def test_self_critical_training_needs_siblings() -> None:
    with pytest.raises(DlmieError, match="samples must be a whole number, at least 2"):
        toy_critic(samples=1)


def test_a_caption_that_was_cut_has_no_end_to_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    step, batch = toy_critic(samples=2)
    seen: list[np.ndarray] = []

    def watch(features: np.ndarray, tokens: np.ndarray, *_: np.ndarray) -> Any:
        seen.append(tokens)
        return 0.0, 1

    step.parts[0]._run = watch
    step.model.parameters[0].set_value(step.model.parameters[0].get_value())
    bias = next(p for p in step.model.parameters if p.name == "/output/b")
    value = bias.get_value()
    value[END] = -50  # it never ends by itself
    bias.set_value(value)
    step(batch)
    assert (seen[0] == END).sum() == 0
    assert seen[0].shape == (12, 6)  # START and five words


def test_a_self_critical_run_is_resumed_from_its_folder(
    data: Captions, cache: Features, tmp_path: Path
) -> None:
    model = ShowTell(cache.shape, data.vocabulary, embedding=6, hidden=8, dropout=0.0)
    references = reference_words(data["train"], data.vocabulary)
    step = reinforce(model, optim.adam(1e-3), references=references, samples=2, max_length=6)
    step.progress = False
    options = {**OPTIONS, "captions_per_image": 1, "epochs": 2}
    whole = train(step, data, to=tmp_path / "whole", features=cache, **options)
    model = ShowTell(cache.shape, data.vocabulary, embedding=6, hidden=8, dropout=0.0)
    step = reinforce(model, optim.adam(1e-3), references=references, samples=2, max_length=6)
    step.progress = False
    parts = train(step, data, to=tmp_path / "parts", features=cache, **{**options, "epochs": 1})
    resume(parts.folder, epochs=2, progress=False)
    (_, one), (_, other) = (storage.load(f / "state.h5") for f in (whole.folder, parts.folder))
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


# -- distillation ----------------------------------------------------------------------------------


def make_pupil(seed: int, share: float, teachers: int = 2) -> tuple[CaptioningStep, Batch]:
    _, batch = toy_critic()
    vocabulary = Vocabulary.build(WORDS, min_count=1)
    made = [
        ShowTell(
            (6,), vocabulary, embedding=12, hidden=16, dropout=0.0, seed=seed + i, dtype="float64"
        )
        for i in range(teachers + 1)
    ]
    step = distill(made[0], optim.adam(2e-2), teachers=made[1:], teacher_share=share)
    step.progress = False
    return step, replace(batch, inputs=batch.inputs.astype(np.float64))


def log_probabilities(model: ShowTell, batch: Batch) -> np.ndarray:
    """Of each next word, (time × batch, words)."""
    logits = log_softmax(model.loss().logits)
    return dlmie.function([model.features, model.tokens], logits)(batch.inputs, batch.tokens)


def test_the_teachers_mean_is_what_is_learned() -> None:
    step, batch = make_pupil(seed=5, share=1.0)
    before = [
        {p.name: p.get_value() for p in teacher.parameters} for teacher in step.objective.teachers
    ]
    mean = np.mean([np.exp(log_probabilities(t, batch)) for t in step.objective.teachers], axis=0)

    def surprise() -> float:
        return float(-(mean * log_probabilities(step.model, batch)).sum(axis=1).mean())

    least = float(-(mean * np.log(mean)).sum(axis=1).mean())  # where the pupil equals the mean
    first = surprise() - least
    for _ in range(150):
        step(batch)
    assert 0 <= surprise() - least < first / 10
    for teacher, values in zip(step.objective.teachers, before, strict=True):
        assert not set(teacher.parameters) & set(step.parameters)
        for p in teacher.parameters:
            np.testing.assert_array_equal(p.get_value(), values[p.name])


def test_without_a_share_the_teachers_say_nothing() -> None:
    pupil, batch = make_pupil(seed=5, share=0.0)
    alone = compile_step(
        ShowTell((6,), pupil.model.vocabulary, **pupil.model.config), optim.adam(2e-2)
    )
    alone.progress = False
    for _ in range(3):
        assert pupil(batch).sums == pytest.approx(alone(batch).sums)


def test_teachers_must_fit(data: Captions, cache: Features) -> None:
    step, _ = make_pupil(seed=1, share=0.5)
    with pytest.raises(DlmieError, match="at least one trained model"):
        distill(step.model, teachers=[])
    with pytest.raises(DlmieError, match="from 0 to 1, not 2"):
        distill(step.model, teachers=step.objective.teachers, teacher_share=2)
    other = ShowTell((7,), step.model.vocabulary, embedding=4, hidden=4)
    with pytest.raises(DlmieError, match="must look at the same layer"):
        distill(step.model, teachers=[other])
    with pytest.raises(DataError, match="vocabular"):
        distill(step.model, teachers=[ShowTell((6,), data.vocabulary, embedding=4, hidden=4)])


def test_a_distilled_run_goes_on_with_its_teachers_only(
    data: Captions, cache: Features, tmp_path: Path
) -> None:
    sizes = {"embedding": 6, "hidden": 8, "dropout": 0.2}
    teacher = compile_step(ShowTell(cache.shape, data.vocabulary, seed=4, **sizes))
    teacher.progress = False
    taught = train(teacher, data, to=tmp_path / "teacher", features=cache, **OPTIONS)

    def pupil() -> CaptioningStep:
        model = ShowTell(cache.shape, data.vocabulary, **sizes)
        objective = {"kind": "distillation", "teachers": [str(taught.folder)], "seed": 1}
        step = make_step(objective, model, optim.adam(1e-3), data)
        step.progress = False
        return step

    options = {**OPTIONS, "epochs": 2}
    whole = train(pupil(), data, to=tmp_path / "whole", features=cache, **options)
    parts = train(pupil(), data, to=tmp_path / "parts", features=cache, **OPTIONS)
    resume(parts.folder, epochs=2, progress=False)
    (_, one), (_, other) = (storage.load(f / "state.h5") for f in (whole.folder, parts.folder))
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])

    best = taught.folder / "best.h5"
    header, arrays = storage.load(best)
    storage.save(best, {name: array + 1 for name, array in arrays.items()}, header)
    with pytest.raises(DataError, match="teacher of this run, is not the file it was"):
        resume(parts.folder, epochs=3, progress=False)


# -- the overfit self-check ------------------------------------------------------------------------


def test_a_working_model_overfits_and_is_left_as_it_was(data: Captions, cache: Features) -> None:
    chain = optim.chain(optim.clip_norm(5.0), optim.adam(1e-2))
    model = ShowTell(cache.shape, data.vocabulary, embedding=32, hidden=64, dropout=0.1)
    step = compile_step(model, chain)
    step.progress = False
    before = {name: np.copy(v.get_value()) for name, v in step.state.items()}
    report = overfit(step, data, images=12, features=cache, batch=6, progress=False)
    assert report.passed, str(report)
    assert report.loss <= 0.5 < report.first_loss
    assert report.images == 12
    assert set(report.changes) == {str(p.name) for p in model.parameters}
    assert all(0 < change <= 2 for change in report.changes.values())
    assert "overfit 12 images: passed" in str(report)
    assert json.loads(json.dumps(report.to_json()))["stuck"] == []
    for name, variable in step.state.items():
        np.testing.assert_array_equal(variable.get_value(), before[name])


def test_a_model_that_does_not_learn_fails(data: Captions, cache: Features) -> None:
    model = ShowTell(cache.shape, data.vocabulary, embedding=4, hidden=4)
    step = compile_step(model, optim.sgd(0.0))
    step.progress = False
    report = overfit(step, data, images=4, features=cache, epochs=2, progress=False)
    assert not report.passed
    assert report.epochs == 2
    assert len(report.stuck) == len(report.changes)
    assert "FAILED" in str(report)
    assert "never moved" in str(report)
