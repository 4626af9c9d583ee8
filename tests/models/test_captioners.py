"""Show and Tell, Show Attend and Tell: losses, attention, and saying what was taught."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import ancestors

import dlmie
from dlmie import optim
from dlmie.captioning.decoding import Decoding, force
from dlmie.captioning.step import CaptioningStep
from dlmie.captioning.step import compile as compile_step
from dlmie.data.batches import Batch
from dlmie.data.captions.vocabulary import END, PAD, START, Vocabulary
from dlmie.errors import DlmieError
from dlmie.layers.noise import Noise
from dlmie.models.captioners.bottleneck_lstm import BottleneckLSTM
from dlmie.models.captioners.caption_rnn import CaptionRNN
from dlmie.models.captioners.show_attend_tell import ShowAttendTell
from dlmie.models.captioners.show_tell import ShowTell
from dlmie.models.encoders.efficientnet_lite import EfficientNetLite0
from dlmie.models.encoders.vgg import VGG16

VOCABULARY = Vocabulary.build([list("abcdefg")], min_count=1)  # 11 words
TOKENS = np.asarray(
    [[START, 4, 5, 6, END], [START, 7, END, PAD, PAD], [START, 8, 9, END, PAD]], np.int32
)


def spread(model: Any, seed: int = 3, scale: float = 0.5) -> Any:
    """Give every parameter, biases too, a value that matters."""
    rng = np.random.default_rng(seed)
    for p in model.parameters:
        value = rng.standard_normal(p.get_value().shape) * scale
        p.set_value(value.astype(p.type.dtype))
    return model


def show_tell(**options: Any) -> ShowTell:
    sizes = {"embedding": 6, "hidden": 5, "dtype": "float64"}
    return spread(ShowTell((4, 2, 3), VOCABULARY, **(sizes | options)))


def attend(**options: Any) -> ShowAttendTell:
    sizes = {"embedding": 6, "hidden": 5, "attention": 7, "dtype": "float64"}
    return spread(ShowAttendTell((4, 2, 3), VOCABULARY, **(sizes | options)))


def features(n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, 4, 2, 3))


@pytest.fixture(scope="module")
def model() -> ShowAttendTell:
    return attend()


# -- said as taught --------------------------------------------------------------------------------

KINDS = {
    "show-tell": lambda: show_tell(),
    "tied": lambda: show_tell(tied=True),
    "soft": lambda: attend(),
    "vector-gate": lambda: attend(gate="vector", score="relu", project=3),
    "global": lambda: attend(global_context=5),
    "global-head": lambda: attend(global_context=5, global_head=8),
    "global-plain": lambda: attend(global_context=5, gate="none", deep_output=False),
    "current": lambda: attend(query="current"),
    "current-global": lambda: attend(
        query="current", gate="vector", score="dot", global_context=5, project=3, position=2
    ),
    "standardized": lambda: attend(standardize=True, gate="none", position=1),
    "bottleneck": lambda: spread(
        BottleneckLSTM(
            (4, 2, 3),
            VOCABULARY,
            image_bottleneck=3,
            embedding=6,
            hidden=5,
            output_bottleneck=4,
            dtype="float64",
        )
    ),
    "hard-plain": lambda: attend(hard=True, gate="none", score="dot", deep_output=False),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_said_word_by_word_as_taught(kind: str) -> None:
    model = KINDS[kind]()
    loss = dlmie.function([model.features, model.tokens], model.loss().each)
    each = loss(features(), TOKENS)
    captions = [row[(row != PAD) & (row != START) & (row != END)].tolist() for row in TOKENS]
    said = force(*model.decoder.begin(features()), captions)
    for n, caption in enumerate(said):
        assert caption.log_probability == pytest.approx(-each[:, n].sum(), abs=1e-10)
        assert each[len(captions[n]) + 1 :, n].tolist() == [0] * (3 - len(captions[n]))

    # What a beam says of its captions is their log-probability, computed from scratch.
    decoding = Decoding(beam=4, n_best=4, max_length=6, allow_unknown=True)
    found = decoding(*model.decoder.begin(features()))
    for n, best in enumerate(found):
        assert len(best) == 4
        for caption in best:
            row = [START, *caption.words, *[END] * caption.finished]
            again = loss(features()[n : n + 1], np.asarray([row], np.int32)).sum()
            assert caption.log_probability == pytest.approx(-again, abs=1e-8)
    # And no other batch, nor order, changes it.
    alone = decoding(*model.decoder.begin(features()[2:]))[0]
    assert [c.words for c in alone] == [c.words for c in found[2]]


def test_the_current_query_has_read_the_word_that_it_follows() -> None:
    changed = TOKENS.copy()
    changed[0, 2] = 9  # what step 2 reads

    def first_change(query: str) -> int:
        model = attend(query=query)
        alphas = model.loss().extras["alphas"]
        f = dlmie.function([model.features, model.tokens], alphas)
        one, other = f(features(), TOKENS), f(features(), changed)
        assert one.shape == (4, 3, 6)
        np.testing.assert_array_equal(one[:, 1:], other[:, 1:])
        return int(np.flatnonzero(np.abs(one - other)[:, 0].max(axis=1) > 1e-9)[0])

    assert first_change("current") == 2
    assert first_change("previous") == 3


def test_queries_are_known_and_hard_attention_asks_before() -> None:
    with pytest.raises(DlmieError, match="query must be one of previous, current, not 'next'"):
        attend(query="next")
    with pytest.raises(DlmieError, match="leave query out"):
        attend(query="current", hard=True)
    with pytest.raises(DlmieError, match="position is -1; it must be 0 or more"):
        attend(position=-1)


def test_annotations_say_where_they_are_in_grids_of_any_size() -> None:
    model = attend(position=2)
    x = pt.tensor4("x", dtype="float64")
    annotate = dlmie.function([x], model._annotations(x))
    for shape in ((2, 3), (4, 5)):
        grid = np.random.default_rng(0).standard_normal((2, 4, *shape))
        found = annotate(grid).reshape(2, *shape, 4 + 8)
        np.testing.assert_array_equal(found[..., :4], grid.transpose(0, 2, 3, 1))
        for row in range(shape[0]):
            for column in range(shape[1]):
                place = [(row + 0.5) / shape[0], (column + 0.5) / shape[1]]
                expected = [
                    np.sqrt(2) * wave(np.pi * k * u)
                    for u in place
                    for wave in (np.sin, np.cos)
                    for k in (1, 2)
                ]
                np.testing.assert_allclose(found[1, row, column, 4:], expected, atol=1e-12)


def test_channels_are_standardized_by_what_was_measured_once() -> None:
    model = ShowAttendTell((4, 2, 3), VOCABULARY, standardize=True, dtype="float64")
    grids = 5 + 3 * np.random.default_rng(1).standard_normal((40, 4, 2, 3))
    grids[:, 2] = 7.0  # tells nothing
    model.measure(lambda: grids)
    annotate = dlmie.function([model.features], model._annotations(model.features))
    cells = annotate(grids).reshape(-1, 4)
    np.testing.assert_allclose(cells.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(cells.std(axis=0), [1, 1, 0, 1], atol=1e-12)

    def never() -> np.ndarray:
        raise AssertionError("measured again")

    model.measure(never)
    attend().measure(never)
    assert {p.name for p in model.measured} <= set(compile_step(model).unsaved)
    assert set(model.measured) <= set(model.parameters)
    assert not any("trainable" in p.roles for p in model.measured)


# -- losses ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def losses(model: ShowAttendTell) -> dict[str, Any]:
    out = model.loss(label_smoothing=0.0)
    smooth = model.loss(label_smoothing=0.2)
    words = model.tokens[:, :-1].T
    logits = model.forward(model.features, words).logits
    names = ("total", "words", "per_word", "per_caption", "each")
    found = [*(getattr(out, n) for n in names), out.extras["alphas"], out.extras["gates"]]
    f = dlmie.function([model.features, model.tokens], [*found, smooth.each, logits])
    values = f(features(), TOKENS)
    return dict(zip((*names, "alphas", "gates", "smooth", "logits"), values, strict=True))


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def test_losses_per_word_and_per_caption(losses: dict[str, Any]) -> None:
    logs = log_softmax(losses["logits"]).reshape(4, 3, 11)
    targets = TOKENS[:, 1:].T
    expected = -np.take_along_axis(logs, targets[..., None], axis=-1)[..., 0] * (targets != PAD)
    np.testing.assert_allclose(losses["each"], expected, atol=1e-12)
    assert losses["words"] == 4 + 2 + 3
    np.testing.assert_allclose(losses["total"], expected.sum())
    np.testing.assert_allclose(losses["per_word"], expected.sum() / 9)
    np.testing.assert_allclose(losses["per_caption"], expected.sum() / 3)


def test_label_smoothing_spreads_its_share(losses: dict[str, Any]) -> None:
    logs = log_softmax(losses["logits"]).reshape(4, 3, 11)
    targets = TOKENS[:, 1:].T
    chosen = np.take_along_axis(logs, targets[..., None], axis=-1)[..., 0]
    expected = -(0.8 * chosen + 0.2 * logs.mean(axis=-1)) * (targets != PAD)
    np.testing.assert_allclose(losses["smooth"], expected, atol=1e-12)


def test_attention_sums_to_one_and_gates_open_partly(losses: dict[str, Any]) -> None:
    assert losses["alphas"].shape == (4, 3, 6)
    np.testing.assert_allclose(losses["alphas"].sum(axis=2), 1)
    assert losses["alphas"].std() > 0.01  # not uniform
    assert losses["gates"].shape == (4, 3, 1)
    assert ((losses["gates"] > 0) & (losses["gates"] < 1)).all()


def test_padding_changes_nothing(model: ShowAttendTell) -> None:
    f = model.loss_function
    wide = np.pad(TOKENS, ((0, 0), (0, 3)), constant_values=PAD)
    np.testing.assert_allclose(f(features(), wide), f(features(), TOKENS), rtol=1e-13)


def test_scheduled_sampling_reads_the_models_own_words() -> None:
    model = show_tell(dropout=0.0)
    read: list[Any] = []

    class Watched(Noise):
        pass

    original = model.forward

    def forward(features: Any, words: Any, noise: Any = None) -> Any:
        read.append(words)
        return original(features, words, noise)

    model.forward = forward  # type: ignore[method-assign]
    noise = Watched(1)
    model.loss(noise=noise, scheduled_sampling=0.5)
    mixed = read[-1]
    f = dlmie.function(
        [model.features, model.tokens], [mixed, original(model.features, read[0]).logits]
    )
    many = np.repeat(TOKENS, 200, axis=0)
    words, logits = f(np.repeat(features(), 200, axis=0), many)
    true = many[:, :-1].T
    own = np.concatenate([true[:1], logits.argmax(axis=1).reshape(true.shape)[:-1]])
    assert words.dtype == np.int32
    np.testing.assert_array_equal(words[0], START)
    np.testing.assert_array_equal(words[true == PAD], PAD)
    assert ((words == true) | (words == own)).all()
    may_differ = (true != own) & (true != PAD)
    may_differ[0] = False
    share = (words != true)[may_differ].mean()
    assert 0.44 < share < 0.56
    # No gradient passes through the choice, and without noise nothing is mixed in.
    assert len(read) == 2
    model.loss(scheduled_sampling=0.5)
    assert len(read) == 3


def test_the_doubly_stochastic_penalty(model: ShowAttendTell) -> None:
    model = attend(dropout=0.0)
    out = model.loss()
    alphas = dlmie.function([model.features, model.tokens], out.extras["alphas"])(
        features(), TOKENS
    )
    present = (TOKENS[:, 1:] != PAD).T[:, :, None]  # (time, batch, 1)
    expected = 0.7 * ((1 - (alphas * present).sum(axis=0)) ** 2).sum()
    step = compile_step(model, optim.sgd(0.0), alpha_penalty=0.7)
    penalty = step.objective.penalties(out, model.tokens)
    value = dlmie.function([model.features, model.tokens], penalty)(features(), TOKENS)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    with pytest.raises(DlmieError, match="alpha_penalty needs attention, and show-tell has none"):
        compile_step(show_tell(), optim.sgd(0.1), alpha_penalty=0.7)


# -- where it looks --------------------------------------------------------------------------------


def test_a_planted_cell_draws_all_attention_and_is_not_transposed() -> None:
    """A hand-set model whose score looks for feature 2, and says the word of feature 3 there."""
    rows, columns = 3, 5
    model = ShowAttendTell(
        (4, rows, columns), VOCABULARY, embedding=4, hidden=2, attention=1, gate="none",
        deep_output=True, dropout=0.0, dtype="float64",
    )  # fmt: skip
    for p in model.parameters:
        p.set_value(np.zeros(p.get_value().shape))
    values = {p.name: p for p in model.parameters}
    W = np.zeros((4, 1))
    W[2] = 4.0
    values["/lstm/annotations/W"].set_value(W)
    values["/lstm/v"].set_value(np.array([25.0]))
    context = np.zeros((4, 4))
    context[3, 0] = 5.0
    values["/output/context/W"].set_value(context)
    output = np.zeros((4, 11))
    output[0, 6] = 9.0
    values["/output/W"].set_value(output)
    rng = np.random.default_rng(0)
    for row, column in [(0, 0), (0, 4), (2, 0), (1, 3), (2, 4)]:
        grid = rng.standard_normal((1, 4, rows, columns)) * 0.02
        grid[0, 2, row, column] = 1.0
        grid[0, 3] = 0.0
        grid[0, 3, row, column] = 1.0
        said = Decoding(beam=1, max_length=3)(*model.decoder.begin(grid))[0][0]
        assert said.words[0] == 6
        assert said.alphas is not None
        assert said.alphas.shape == (len(said.words), rows, columns)
        for alphas in said.alphas:
            assert np.unravel_index(alphas.argmax(), alphas.shape) == (row, column)
            assert alphas[row, column] > 0.99
        np.testing.assert_allclose(said.alphas.sum(axis=(1, 2)), 1)


def toy(n: int, seed: int) -> Batch:
    """Each cell is of one of three kinds; that of the marked one is the word to say."""
    rng = np.random.default_rng(seed)
    kinds, cell, i = rng.integers(0, 3, (n, 6)), rng.integers(0, 6, n), np.arange(n)
    x = np.zeros((n, 4, 6), np.float32)
    x[:, :3] = np.eye(3)[kinds].transpose(0, 2, 1)
    x[i, 3, cell] = 1.5
    x = x.reshape(n, 4, 2, 3)
    ends = np.full(n, END)
    tokens = np.stack([np.full(n, START), 4 + kinds[i, cell], ends], axis=1).astype(np.int32)
    return Batch(x, tokens, i, cell, np.zeros(n, bool))


def test_attention_learns_to_look_at_the_only_cell_that_tells() -> None:
    model = ShowAttendTell((4, 2, 3), VOCABULARY, embedding=8, hidden=12, attention=12, dropout=0.0)
    step = compile_step(model, optim.adam(2e-2))
    step.progress = False
    for i in range(200):
        step(toy(48, i))
    batch = toy(60, 999)
    said = Decoding(beam=1, max_length=3)(*model.decoder.begin(batch.inputs))
    right = [c[0].words == [row[1]] for c, row in zip(said, batch.tokens, strict=True)]
    assert np.mean(right) > 0.95
    peaks = [c[0].alphas[0].argmax() for c in said]  # type: ignore[index]
    assert np.mean(np.asarray(peaks) == batch.caption_index) > 0.5  # chance: 1 in 6
    assert np.abs(model.lstm.v.get_value()).max() > 0


# -- types, names, errors --------------------------------------------------------------------------


def every_captioner() -> Iterator[tuple[str, CaptioningStep]]:
    grid = (4, 2, 3)
    chain = optim.chain(
        optim.clip_norm(5.0), optim.adamw(optim.cosine(1e-3, 100, warmup=3)), optim.ema(0.9)
    )
    soft = {"alpha_penalty": 1.0, "label_smoothing": 0.1, "scheduled_sampling": 0.1}
    small: dict[str, Any] = {"embedding": 6, "hidden": 5}
    for name, model, options in (
        ("soft", ShowAttendTell(grid, VOCABULARY, **small), soft),
        ("hard", ShowAttendTell(grid, VOCABULARY, gate="vector", hard=True, **small), {}),
        ("tied", ShowTell(grid, VOCABULARY, tied=True, **small), {"scheduled_sampling": 0.1}),
        ("bottleneck", BottleneckLSTM(grid, VOCABULARY, dropout=0.1, **small), {}),
        *((c, CaptionRNN(grid, VOCABULARY, cell=c, **small), {})
          for c in ("rnn", "lstm", "attention")),
    ):  # fmt: skip
        yield name, compile_step(model, chain, **options)


def test_no_float64_is_in_any_training_graph_of_float32() -> None:
    for name, step in every_captioner():
        loss = step.parts[0].loss
        changed = [*step.updates, *loss.updates]
        roots = [*loss.reported.values(), loss.weight, *(new for _, new in changed)]
        found = [
            v
            for v in ancestors(roots)
            # A literal that is cast at once is folded away.
            if getattr(v.type, "dtype", "") == "float64" and not isinstance(v, Constant)
        ]
        assert not found, f"{name}: {found[:5]}"


@pytest.mark.parametrize("wanted", ["soft", "hard"])
def test_no_float64_is_in_the_compiled_function(wanted: str) -> None:
    step = dict(every_captioner())[wanted]
    step.progress = False
    step.parts[0].compile(progress=False)
    graph = step.parts[0]._run.maker.fgraph
    double = [v for v in graph.variables if getattr(v.type, "dtype", "") == "float64"]
    assert not double, double[:5]
    batch = toy(5, 0)
    result = step(batch)
    assert np.isfinite(result.sums["loss"])
    assert (result.weight, result.examples) == (10, len(batch))


def test_parameters_are_named_and_listed_by_the_summary(model: ShowAttendTell) -> None:
    names = [p.name for p in model.parameters]
    assert names == sorted(names)
    for name in ("/embedding/W", "/lstm/W_h", "/lstm/v", "/output/context/W", "/initial/cell/b"):
        assert name in names
        assert name in model.summary()
    total = sum(p.get_value().size for p in model.parameters)
    assert model.summary().splitlines()[-1].split() == ["total", f"{total:,}"]


def test_config_makes_an_equal_model() -> None:
    for first in (attend(gate="vector", hard=True, project=3, seed=5), show_tell(tied=True)):
        again = type(first)((4, 2, 3), VOCABULARY, **first.config)
        assert again.config == first.config
        assert [(p.name, p.type) for p in again.parameters] == [
            (p.name, p.type) for p in first.parameters
        ]
    one, two = (ShowTell((4,), VOCABULARY, embedding=3, hidden=3, seed=8) for _ in range(2))
    for p, q in zip(one.parameters, two.parameters, strict=True):
        np.testing.assert_array_equal(p.get_value(), q.get_value())


def test_annotations_may_be_a_symbolic_layer_of_known_shape() -> None:
    layer = pt.tensor("layer", dtype="float32", shape=(None, 4, 2, 3))
    assert ShowTell(layer, VOCABULARY, embedding=3, hidden=3).annotation_shape == (4, 2, 3)
    with pytest.raises(DlmieError, match=r"known shape .*, not \(4, None, 3\)"):
        ShowTell(pt.tensor("x", dtype="float32", shape=(None, 4, None, 3)), VOCABULARY)
    with pytest.raises(DlmieError, match=r"attention needs a grid of annotations"):
        ShowAttendTell((4,), VOCABULARY)


def test_attends_to_conv5_3_of_vgg() -> None:
    vgg = VGG16(top=False)  # random weights: shapes are what counts
    model = ShowAttendTell(vgg["conv5_3"], VOCABULARY, embedding=6, hidden=5, attention=7)
    assert model.annotation_shape == (512, 14, 14)
    assert (model.encoder, model.layer) == (vgg, "conv5_3")
    grid = np.random.default_rng(0).standard_normal((2, 512, 14, 14)).astype(np.float32)
    for said in Decoding(beam=2, max_length=3)(*model.decoder.begin(grid)):
        assert said[0].alphas is not None
        assert said[0].alphas.shape[1:] == (14, 14)


def test_the_head_of_the_encoder_is_the_global_context() -> None:
    network = EfficientNetLite0(size=64, weights=None, output_stride=16)
    sizes: dict[str, Any] = {"embedding": 6, "hidden": 5, "attention": 7, "dropout": 0.0}
    model = ShowAttendTell(network["block15"], VOCABULARY, global_head=1280, **sizes)
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    annotations = network["block15"]
    first = model.begin(annotations)[0]
    seen, grid, found = dlmie.function([network.input], [annotations, network["head"], *first[:1]])(
        images
    )
    assert seen.shape[1:] == model.annotation_shape == (320, 4, 4)
    pooled = grid[:, :, 1::2, 1::2].mean(axis=(2, 3))
    W, b = model.first_hidden.W.get_value(), model.first_hidden.b.get_value()
    np.testing.assert_allclose(found, np.tanh(pooled @ W + b), atol=1e-5)

    # It is not learned, and it is a part of the model: of its file, and of a run's state.
    assert {p.name for p in model.copied} == {"/global/head/W", "/global/head/b"}
    assert set(model.copied) <= set(model.parameters)
    assert not any("trainable" in p.roles for p in model.copied)
    assert {p.name for p in model.copied} <= set(compile_step(model).unsaved)
    assert ShowAttendTell.copies_encoder(model.config)
    assert not ShowAttendTell.copies_encoder(attend().config)
    with pytest.raises(DlmieError, match=r"global_head: 64 units after block15 .* has 1280 there"):
        ShowAttendTell(network["block15"], VOCABULARY, global_head=64, **sizes)
    with pytest.raises(DlmieError, match=r"after block10 of efficientnet-lite0, which has none"):
        ShowAttendTell(network["block10"], VOCABULARY, global_head=1280, **sizes)


def test_gradients_reach_every_parameter(model: ShowAttendTell) -> None:
    gradients = pytensor.grad(model.loss().per_word, model.parameters)
    values = dlmie.function([model.features, model.tokens], gradients)(features(), TOKENS)
    for p, g in zip(model.parameters, values, strict=True):
        assert np.abs(g).max() > 1e-8, p.name
