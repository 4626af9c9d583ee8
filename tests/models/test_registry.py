"""The one table of models, and classes of a user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from captioning_cases import make_cache, make_data

import dlmie
from dlmie.captioning import save_model
from dlmie.classification import model_files as classification
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.vocabulary import SPECIAL, Vocabulary
from dlmie.errors import DlmieError
from dlmie.files import containers
from dlmie.generation import model_files as generation
from dlmie.models import QTable, ShowTell, Softmax, VanillaGAN, registry
from dlmie.models.agents.agent import Spaces
from dlmie.reinforcement import model_files as reinforcement
from dlmie.training.registry import task_options


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MODELS", dict(registry.MODELS))
    monkeypatch.setattr(registry, "_registered", {})


def test_every_entry_is_a_class_of_that_kind() -> None:
    for name, entry in registry.MODELS.items():
        found: Any = registry.model_class(name, entry.role)
        assert found.__name__ == entry.class_name
        if entry.role in registry.TASKS:
            assert found.kind == name
            assert found.task == registry.task_of(name)


def test_a_command_trains_a_model_for_what_its_class_says() -> None:
    for name, entry in registry.MODELS.items():
        options = task_options(registry.task_of(name)) if entry.role in registry.TASKS else None
        if options is None or entry.role == "captioner":  # which learns by any objective
            continue
        found: Any = registry.model_class(name, entry.role)
        learned = found.objective if entry.role == "agent" else found.loss
        assert (entry.objective or next(iter(options.objectives))) == learned


def test_unknown_names_are_told_the_closest() -> None:
    with pytest.raises(DlmieError, match="unknown captioner 'show-tel'; did you mean 'show-tell'"):
        registry.model_class("show-tel", "captioner")
    with pytest.raises(DlmieError, match="unknown encoder 'show-tell'"):
        registry.model_class("show-tell", "encoder")
    with pytest.raises(DlmieError, match="unknown model 'vgg16'"):
        registry.task_of("vgg16")


@pytest.mark.usefixtures("table")
def test_a_class_of_ones_own_is_loaded_as_itself(tmp_path: Path) -> None:
    @dlmie.register
    class Mine(ShowTell):
        kind = "mine"

    data = make_data(tmp_path)
    path = save_model(
        Mine((5,), data.vocabulary, embedding=2, hidden=2), tmp_path / "m.h5", encoder=None
    )
    assert type(dlmie.load(path).model) is Mine
    with pytest.raises(DlmieError, match="another captioner of kind 'show-tell'"):
        dlmie.register(type("Other", (ShowTell,), {"kind": "show-tell"}))
    with pytest.raises(DlmieError, match="Nameless needs a kind of its own"):
        dlmie.register(type("Nameless", (ShowTell,), {}))
    with pytest.raises(DlmieError, match="Table must be derived from a captioner of dlmie"):
        dlmie.register(type("Table", (QTable,), {"kind": "table"}), role="captioner")
    with pytest.raises(DlmieError, match="int must be derived from a model of dlmie"):
        dlmie.register(int)


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("name", ["softmax", "gan", "q-table", "show-tell"])
def test_a_class_says_its_role_by_what_it_is_derived_from(name: str) -> None:
    base: Any = registry.model_class(name, registry.MODELS[name].role)
    mine = dlmie.register(type("Mine", (base,), {"kind": "mine"}))
    assert registry.MODELS["mine"].role == registry.MODELS[name].role
    assert registry.model_class("mine", registry.MODELS[name].role) is mine


@pytest.mark.parametrize("names", [{}, {"kind": "unknown-to-all"}])
def test_what_could_not_be_loaded_is_not_saved(names: dict[str, str], tmp_path: Path) -> None:
    words = Vocabulary([*SPECIAL, "a"])
    captioner = type("Stray", (ShowTell,), names)((5,), words, embedding=2, hidden=2)
    softmax = type("Stray", (Softmax,), names)((4, 4, 3), ["a", "b"])
    generator = type("Stray", (VanillaGAN,), names)((4, 4, 1), latent=2)
    agent = type("Stray", (QTable,), names)(Spaces((), 4, 2, "int64"))
    for save in (
        lambda path: save_model(captioner, path, encoder=None),
        lambda path: classification.save_model(softmax, path),
        lambda path: generation.save_model(generator, path),
        lambda path: reinforcement.save_model(agent, path, environment="Mine-v0"),
    ):
        with pytest.raises(DlmieError, match=r"dlmie\.register\(Stray\)"):
            save(tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()


def test_a_file_of_an_unregistered_class_says_what_to_do(tmp_path: Path) -> None:
    words = Vocabulary([*SPECIAL, "a"])
    path = save_model(ShowTell((5,), words, embedding=2, hidden=2), tmp_path / "m.h5", encoder=None)
    header, arrays = containers.load(path)
    containers.save(path, arrays, {**header, "kind": "theirs"})
    with pytest.raises(DlmieError, match=r"unknown captioner 'theirs'.*registered first"):
        dlmie.load(path)


@pytest.mark.parametrize("names", [{}, {"kind": "unknown-to-all"}])
def test_what_could_not_be_loaded_is_refused_before_training(
    names: dict[str, str], tmp_path: Path
) -> None:
    data: Captions = make_data(tmp_path)
    cache = make_cache(data, tmp_path / "f.h5")
    model = type("Stray", (ShowTell,), names)(cache.shape, data.vocabulary, embedding=2, hidden=2)
    with pytest.raises(DlmieError, match=r"register it, dlmie\.register\(Stray\), before training"):
        dlmie.train(dlmie.compile(model), data, to=tmp_path / "run", features=cache)
    assert not (tmp_path / "run").exists()


def test_former_names_of_arguments(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    with pytest.warns(DeprecationWarning, match="the argument words of .* is now called embedding"):
        model = ShowTell((5,), data.vocabulary, words=3, hidden=2)
    assert model.config["embedding"] == 3
    assert "words" not in model.config


def test_a_former_name_is_understood() -> None:
    import dlmie.models as models

    with pytest.warns(DeprecationWarning, match="models.Classifier is now called ImageNetwork"):
        assert models.Classifier is models.ImageNetwork
