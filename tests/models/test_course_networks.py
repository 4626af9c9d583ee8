"""The course's numbers of its networks: losses, gradients and seeded training runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytensor
import pytest
from course import GivenMasks, all_of_cifar10, assert_matches, cifar10, course_entry, line

from dlmie import optim
from dlmie.compilation import function
from dlmie.layers import Noise
from dlmie.losses import cross_entropy
from dlmie.models import FullyConnected, ThreeLayerConvNet, TwoLayerNet
from dlmie.models.classifiers.network import NetworkClassifier


class Learner:
    """A network with the compiled functions of its loss, gradients, scores and training step.

    ``losses(x, y)`` returns the training loss with its penalty, then the gradients by name.
    """

    def __init__(
        self,
        model: NetworkClassifier,
        noise: Noise | None = None,
        optimizer: optim.Transform | None = None,
    ) -> None:
        self.model, self.noise = model, noise or Noise()
        self.named = {str(p.name): p for p in model.parameters}
        logits, self.updates = model.train(model.images, self.noise)
        self.loss = cross_entropy(logits, model.labels) + model.penalty()
        self.learned = [p for p in model.parameters if "trainable" in p.roles]
        masks = self.noise.inputs if isinstance(self.noise, GivenMasks) else []
        self.inputs = [model.images, model.labels, *masks]
        self.optimizer = optimizer
        self._run: Callable[..., list[np.ndarray]] | None = None

    def losses(self, x: np.ndarray, y: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        if self._run is None:
            gradients = pytensor.grad(self.loss, self.learned)
            self._run = function(self.inputs, [self.loss, *gradients])
        loss, *found = self._run(*self.arrays(x, y))
        names = [str(p.name) for p in self.learned]
        return float(loss), dict(zip(names, found, strict=True))

    def arrays(self, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        masks = self.noise.drawn(len(x)) if isinstance(self.noise, GivenMasks) else []
        return [self.images(x), np.asarray(y, np.int64), *masks]

    def images(self, x: np.ndarray) -> np.ndarray:
        rows, columns, channels = self.model.shape
        return x.reshape(-1, channels, rows, columns).astype(self.model.dtype)

    def stepper(self) -> Callable[[np.ndarray, np.ndarray], float]:
        """A step of the optimizer: images and labels → their loss before it."""
        assert self.optimizer is not None
        moves = optim.chain(self.optimizer).updates(self.loss, self.learned)
        self.moves = moves
        run = function(self.inputs, self.loss, updates=[*moves, *self.updates])
        return lambda x, y: float(run(*self.arrays(x, y)))

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        return float((self.model.predict(self.images(x)).argmax(axis=1) == y).mean())

    def fill(self, **values: np.ndarray) -> None:
        """Set parameters by name: ``layer1_W`` is ``/layer1/W``."""
        for name, value in values.items():
            parameter = self.named["/" + name.replace("_", "/")]
            parameter.set_value(np.asarray(value, parameter.type.dtype))


#: The course's names of what two layers learn, and ours.
NAMES = {"W1": "/layer1/W", "b1": "/layer1/b", "W2": "/layer2/W", "b2": "/layer2/b"}
CLASSES = [str(label) for label in range(10)]


def draw_weights(learner: Learner, r: np.random.RandomState, scale: float) -> Learner:
    """The weights of each layer as the course draws them, biases 0."""
    for name, parameter in learner.named.items():
        if name.endswith("/W"):
            drawn = scale * r.randn(*parameter.type.shape)
            parameter.set_value(drawn.astype(parameter.type.dtype))
    return learner


def toy_net(
    strength: float, optimizer: optim.Transform | None = None
) -> tuple[Learner, np.random.RandomState, np.ndarray, np.ndarray]:
    """The net and the five points of assignment 1, and the generator after its weights."""
    model = TwoLayerNet((4, 1, 1), CLASSES[:3], hidden=10, regularization=strength, dtype="float64")
    r = np.random.RandomState(0)
    learner = draw_weights(Learner(model, optimizer=optimizer), r, 0.1)
    return learner, r, 10 * np.random.RandomState(1).randn(5, 4), np.array([0, 1, 2, 2, 1])


def test_toy_net(shared: Path) -> None:
    entry = course_entry(shared, "toy_two_layer_grads")
    learner, _, x, y = toy_net(0.05)
    loss, gradients = learner.losses(x, y)
    found = {name: gradients[ours] for name, ours in NAMES.items()}
    for name, array in {"loss": loss, **found}.items():
        assert_matches(np.asarray(array), entry["expected"][name], entry["rtol"])


def test_toy_training(shared: Path) -> None:
    """A hundred steps whose learning rate decays after each of them."""
    entry = course_entry(shared, "toy_two_layer_training")
    rate = optim.exponential_decay(0.1, factor=0.95, every=1)
    learner, r, x, y = toy_net(5e-6, optim.sgd(rate))
    step, history = learner.stepper(), []
    for _ in range(100):
        chosen = r.choice(5, 200)
        history.append(step(x[chosen], y[chosen]))
    np.testing.assert_allclose(history, entry["expected"]["loss_history"], rtol=entry["rtol"])


@pytest.mark.parametrize("strength", [0.0, 0.7, 1.0])
def test_two_layer_net(shared: Path, strength: float) -> None:
    """Assignment 2, whose penalty is half of the sum of squares."""
    entry = course_entry(shared, "two_layer_net_a2_grads")
    model = TwoLayerNet(
        (5, 1, 1), CLASSES[:7], hidden=50, regularization=strength / 2, dtype="float64"
    )
    learner = Learner(model)
    learner.fill(
        layer1_W=line(-0.7, 0.3, 5, 50),
        layer1_b=line(-0.1, 0.9, 50),
        layer2_W=line(-0.3, 0.4, 50, 7),
        layer2_b=line(-0.9, 0.1, 7),
    )
    x = np.ascontiguousarray(line(-5.5, 4.5, 5, 3).T)
    expected, rtol = entry["expected"], entry["rtol"]
    assert_matches(model.predict(learner.images(x)), expected["scores"], rtol)
    loss, gradients = learner.losses(x, np.array([0, 5, 1]))
    assert loss == pytest.approx(expected[f"reg_{strength}"]["loss"], rel=rtol)
    for name, ours in NAMES.items():
        assert_matches(gradients[ours], expected[f"reg_{strength}"][name], rtol)


def deep_net(r: np.random.RandomState, noise: Noise | None = None, **options: object) -> Learner:
    """Three layers for vectors of 15, with the next weights of a generator."""
    model = FullyConnected(
        (15, 1, 1),
        CLASSES,
        sizes=(20, 30),
        dtype="float64",
        **options,  # type: ignore[arg-type]
    )
    return draw_weights(Learner(model, noise), r, 5e-2)


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("fully_connected_initial_loss", "none"),
        ("fully_connected_batchnorm_initial_loss", "batch"),
    ],
)
def test_first_loss_of_a_deep_net(shared: Path, name: str, norm: str) -> None:
    entry = course_entry(shared, name)
    r = np.random.RandomState(231)
    x, y = r.randn(2, 15), r.randint(10, size=2)
    names = {"W1": "/layer1/W", "W3": "/layer3/W", "b2": "/layer2/b"}
    names |= {"gamma1": "/layer1/norm/gamma", "beta2": "/layer2/norm/beta"}
    for strength in (0, 3.14):
        learner = deep_net(r, norm=norm, regularization=strength / 2)
        loss, gradients = learner.losses(x, y)
        expected = entry["expected"][f"reg_{strength}"]
        assert loss == pytest.approx(expected.pop("loss"), rel=entry["rtol"])
        for theirs, numbers in expected.items():
            assert_matches(gradients[names[theirs]], numbers, entry["rtol"], 1e-12)


@pytest.mark.parametrize("version", ["2017", "2021"])
def test_dropout_in_a_deep_net(shared: Path, version: str) -> None:
    """Each mask reseeds the one generator of the course with 123; the weights follow from it."""
    entry = course_entry(shared, f"fully_connected_dropout_{version}")
    r = np.random.RandomState(231)
    x, y = r.randn(2, 15), r.randint(10, size=2)

    def reseeded() -> np.random.RandomState:
        r.seed(123)
        return r

    keeps = [keep if 0 < keep < 1 else 1.0 for keep in entry["inputs"]["keep"]]
    losses = [deep_net(r, GivenMasks(reseeded), keep=keep).losses(x, y)[0] for keep in keeps]
    np.testing.assert_allclose(losses, entry["expected"]["losses"], rtol=entry["rtol"])


def test_first_loss_of_a_convolutional_net(shared: Path) -> None:
    entry = course_entry(shared, "three_layer_convnet_initial_loss")
    r = np.random.RandomState(231)
    for shape in ((2, 3, 8, 8), (3, 3, 3, 3), (3,), (2, 3, 8, 8)):
        r.randn(*shape)
    drawn = [1e-3 * r.randn(*shape) for shape in ((32, 3, 7, 7), (8192, 100), (100, 10))]
    x, y = r.randn(50, 3, 32, 32), r.randint(10, size=50)
    for strength, dtype in ((0, "float32"), (0.5, "float64")):
        model = ThreeLayerConvNet((32, 32, 3), CLASSES, regularization=strength / 2, dtype=dtype)
        learner = Learner(model)
        # The course's weights are float32; those are summed here in double precision.
        conv, hidden, scores = (weights.astype(np.float32) for weights in drawn)
        learner.fill(conv_W=conv, hidden_W=hidden, scores_W=scores)
        loss, _ = learner.losses(x, y)
        assert loss == pytest.approx(entry["expected"][f"reg_{strength}"], rel=entry["rtol"])


def centered(images: np.ndarray, mean: np.ndarray) -> np.ndarray:
    return (images - mean).transpose(0, 3, 1, 2)


def convnet(
    r: np.random.RandomState, *, hidden: int = 100, scale: float = 1e-2, strength: float = 0.0
) -> Learner:
    """The course's, with small weights in the order in which it draws them.

    Its weights begin as float32; its pixels are float64, and so is all that is computed of them.
    """
    model = ThreeLayerConvNet(
        (32, 32, 3), CLASSES, hidden=hidden, regularization=strength / 2, dtype="float64"
    )
    learner = Learner(model, optimizer=optim.adam(1e-3))
    shapes = {"conv_W": (32, 3, 7, 7), "hidden_W": (8192, hidden), "scores_W": (hidden, 10)}
    drawn = {name: scale * r.randn(*shape) for name, shape in shapes.items()}
    learner.fill(**{name: array.astype(np.float32) for name, array in drawn.items()})
    return learner


@pytest.mark.slow
def test_overfitting_a_hundred_images(shared: Path) -> None:
    """Thirty losses; a bias correction of Adam that begins at 2 would differ from the second on."""
    entry = course_entry(shared, "data_convnet_overfit")
    images, labels, mean = cifar10(shared, "train_00")
    x, y = centered(images[:100], mean), labels[:100]
    others, theirs, _ = cifar10(shared, "train_49")
    r = np.random.RandomState(231)
    learner = convnet(r)
    step = learner.stepper()
    losses, accuracy, dev = [], [], []
    for number in range(1, 31):
        chosen = r.choice(100, 50)
        losses.append(step(x[chosen], y[chosen]))
        if number == 1 or number % 2 == 0:
            accuracy.append(learner.accuracy(x, y))
            dev.append(learner.accuracy(centered(others, mean), theirs))
    expected = entry["expected"]["adam_from_t1"]
    np.testing.assert_allclose(losses, expected["losses"], rtol=entry["rtol"])
    np.testing.assert_allclose(accuracy, expected["train_acc"], atol=1e-9)
    np.testing.assert_allclose(dev, expected["val_acc"], atol=1e-9)


def first_thousand(shared: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    images, labels, mean = cifar10(shared, "train_00")
    return centered(images[:count], mean), labels[:count]


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_the_batch_norm_experiment_begins_the_same(shared: Path, norm: str) -> None:
    """Later losses differ with the order of float32 sums, in the course's notebooks as well."""
    entry = course_entry(shared, "data_batchnorm_experiment")
    x, y = first_thousand(shared, 1000)
    r = np.random.RandomState(231)
    learners = []
    for kind in ("batch", "none"):
        model = FullyConnected((32, 32, 3), CLASSES, sizes=[100] * 5, norm=kind)
        learners.append(draw_weights(Learner(model, optimizer=optim.adam(1e-3)), r, 2e-2))
    if norm == "none":  # trained second, with what the generator has left
        for _ in range(200):
            r.choice(1000, 50)
    expected = entry["expected"]["batchnorm" if norm == "batch" else "plain"]["losses"]
    step = learners[norm == "none"].stepper()
    losses = []
    for _ in range(21):
        chosen = r.choice(1000, 50)
        losses.append(step(x[chosen], y[chosen]))
    np.testing.assert_allclose(losses[:3], expected[:3], rtol=1e-4)
    np.testing.assert_allclose(losses, expected[:21], rtol=entry["rtol"])


def test_the_dropout_experiment_begins_the_same(shared: Path) -> None:
    entry = course_entry(shared, "data_dropout_experiment")
    x, y = first_thousand(shared, 500)
    r = np.random.RandomState(231)

    def learner(keep: float) -> Learner:
        model = FullyConnected((32, 32, 3), CLASSES, sizes=[500], keep=keep)
        noise = GivenMasks(lambda: r)
        return draw_weights(Learner(model, noise, optim.adam(5e-4)), r, 1e-2)

    def losses(of: Learner, steps: int) -> Sequence[float]:
        step, found = of.stepper(), []
        for _ in range(steps):
            chosen = r.choice(500, 100)
            found.append(step(x[chosen], y[chosen]))
        return found

    plain = losses(learner(1.0), 125)
    dropped = losses(learner(0.75), 3)
    expected = entry["expected"]
    np.testing.assert_allclose(plain[:3], expected["none"]["losses"][:3], rtol=1e-3)
    np.testing.assert_allclose(dropped, expected["keep_0.75"]["losses"][:3], rtol=1e-3)


@pytest.mark.slow
def test_the_run_of_assignment_one(shared: Path) -> None:
    """Ten losses and the accuracy of a thousand steps on all of CIFAR-10."""
    images, labels = all_of_cifar10(shared)
    entry = course_entry(shared, "data_two_layer_cifar_run")
    mean = images[:49_000].reshape(49_000, -1).mean(axis=0)
    r = np.random.RandomState(0)
    for shape in ((4, 10), (10, 3)):
        r.randn(*shape)
    for _ in range(100):
        r.choice(5, 200)
    # Here the course flattens images with their channels last, so the weights are so, too.
    model = TwoLayerNet((3072, 1, 1), CLASSES, hidden=50, regularization=0.25, dtype="float64")
    learner = draw_weights(Learner(model, optimizer=optim.sgd(1e-4)), r, 1e-4)
    step, rate, losses = learner.stepper(), 1e-4, []

    def pixels(some: np.ndarray) -> np.ndarray:
        return some.reshape(len(some), -1) - mean

    for number in range(1000):
        chosen = r.choice(49_000, 200)
        loss = step(pixels(images[chosen]), labels[chosen])
        if number % 100 == 0:
            losses.append(loss)
        if number % 245 == 0:
            rate *= 0.95
            learner.moves.set_learning_rate(rate)
    np.testing.assert_allclose(losses, entry["expected"]["losses"], rtol=entry["rtol"])
    accuracy = learner.accuracy(pixels(images[49_000:]), labels[49_000:])
    assert accuracy == pytest.approx(entry["expected"]["val_accuracy"])


@pytest.mark.slow
def test_an_epoch_of_the_convolutional_net_begins_the_same(shared: Path) -> None:
    images, labels = all_of_cifar10(shared)
    entry = course_entry(shared, "data_convnet_one_epoch_start")
    mean = images[:49_000].mean(axis=0)
    r = np.random.RandomState(231)
    for shape in ((32, 3, 7, 7), (8192, 100), (100, 10)):
        r.randn(*shape)
    for _ in range(30):  # of the net that overfits
        r.choice(100, 50)
    learner = convnet(r, hidden=500, scale=1e-3, strength=1e-3)
    step, losses = learner.stepper(), []
    for number in range(41):
        chosen = r.choice(49_000, 50)
        losses.append(step(centered(images[chosen], mean), labels[chosen]))
        if number == 0:
            r.choice(49_000, 1000)  # of the course's measurement
    np.testing.assert_allclose(losses, entry["expected"]["losses"], rtol=entry["rtol"])
