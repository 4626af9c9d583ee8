"""How good generated images are, and whether they differ from each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from dlmie.classification.model_files import load as load_classifier
from dlmie.compilation import function
from dlmie.data.labelled.dataset import LabelledSplit
from dlmie.errors import DataError
from dlmie.generation.model_files import load
from dlmie.models.classifiers.image_classifier import ImageClassifier
from dlmie.models.classifiers.network import NetworkClassifier
from dlmie.models.generators.gan import GAN
from dlmie.text import format_table

_CELLS = 7  # along each side of the small images whose pixels are compared
# Below these, a generator repeats itself: of real images both are 1.
_LEAST_DIVERSITY, _LEAST_EVENNESS = 0.6, 0.5


@dataclass(frozen=True, eq=False)
class GenerationScores:
    """What can be said of generated images.

    Attributes
    ----------
    pixel_frechet : float
        Fréchet distance of generated and real images, reduced to 7 × 7 pixels of 0 to 1.
    diversity : float
        The mean distance between generated images, over that between real ones.
    histogram : mapping
        By class, the share of images that the classifier takes for it; None without a classifier.
    confidence : float, optional
        The mean probability of the class that the classifier takes an image for.
    frechet : float, optional
        Fréchet distance in the features of the classifier, those before its scores.
    protocol : dict
        What makes the numbers comparable.
    """

    pixel_frechet: float
    diversity: float
    histogram: Mapping[str, float] | None = None
    confidence: float | None = None
    frechet: float | None = None
    protocol: Mapping[str, object] = field(default_factory=dict)

    @property
    def classes(self) -> int | None:
        """The classes that at least one image in a hundred is of."""
        if self.histogram is None:
            return None
        return sum(share >= 0.01 for share in self.histogram.values())

    @property
    def evenness(self) -> float | None:
        """The entropy of the histogram over its greatest possible value: 1 is even, 0 one class."""
        if self.histogram is None:
            return None
        shares = np.array([share for share in self.histogram.values() if share > 0])
        return float(-(shares * np.log(shares)).sum() / np.log(len(self.histogram)))

    @property
    def warnings(self) -> list[str]:
        """What looks like mode collapse, in a line each."""
        found = []
        if self.diversity < _LEAST_DIVERSITY:
            found.append(
                f"mode collapse? the images differ from each other {self.diversity:.2f} times as "
                "much as real ones do"
            )
        if self.evenness is not None and self.evenness < _LEAST_EVENNESS:
            assert self.histogram is not None
            name = max(self.histogram, key=self.histogram.__getitem__)
            found.append(
                f"mode collapse? {100 * self.histogram[name]:.0f} % of the images are {name}"
            )
        return found

    def to_json(self) -> dict[str, object]:
        """The scores as a document."""
        return {
            "pixel_frechet": self.pixel_frechet,
            "diversity": self.diversity,
            "frechet": self.frechet,
            "confidence": self.confidence,
            "classes": self.classes,
            "evenness": self.evenness,
            "histogram": None if self.histogram is None else dict(self.histogram),
            "warnings": self.warnings,
            "protocol": dict(self.protocol),
        }

    def __str__(self) -> str:
        head = f"pixel Fréchet distance {self.pixel_frechet:.3f}, diversity {self.diversity:.3f}"
        lines = [f"{head} ({self.protocol.get('images')} images)"]
        if self.histogram is not None:
            lines.append(
                f"by the classifier: Fréchet distance {self.frechet:.3f}, confidence "
                f"{self.confidence:.3f}, {self.classes} of {len(self.histogram)} classes"
            )
            rows = [(name, f"{share:.3f}") for name, share in self.histogram.items()]
            lines.append(format_table(("class", "share"), rows))
        return "\n".join([*lines, *self.warnings])


class Scorer:
    """Compares generated images with real ones.

    Parameters
    ----------
    split : LabelledSplit
        The real images.
    classifier : ImageClassifier, optional
        Of the same images, with a hidden layer.
    images : int
        How many of each.

    Raises
    ------
    DataError
        The classifier is for other images, or has no hidden layer.
    """

    def __init__(
        self, split: LabelledSplit, classifier: ImageClassifier | None = None, *, images: int = 1000
    ) -> None:
        if len(split) < 2:
            raise DataError(f"the split {split.name} has {len(split)} images; two are needed")
        self._split, self._count, self._classifier = split, images, classifier
        if classifier is not None and classifier.shape != split.shape:
            raise DataError(
                f"the classifier is for images of {classifier.shape}, not of {split.shape}"
            )
        if classifier is not None and not isinstance(classifier, NetworkClassifier):
            raise DataError(
                f"{classifier.kind} has no features: train a two-layer net or a convnet to score by"
            )

    @cached_property
    def _real(self) -> np.ndarray:
        count = min(self._count, len(self._split))
        places = np.random.default_rng(0).permutation(len(self._split))[:count]
        return self._split.load_images(np.sort(places))

    @cached_property
    def _seen(self) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Compiled: normalized images → features and scores of the classifier."""
        classifier = self._classifier
        assert isinstance(classifier, NetworkClassifier)
        *below, last = classifier.layers.layers
        features = classifier.images
        for layer in below:
            features = layer(features)
        compiled: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] = function(
            [classifier.images], [features.flatten(2), last(features)], name="scores of images"
        )
        return compiled

    def _features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self._classifier is not None
        normalized = self._classifier.normalization(images, self._classifier.dtype)
        parts = [self._seen(normalized[i : i + 250]) for i in range(0, len(images), 250)]
        features, logits = (np.concatenate(part) for part in zip(*parts, strict=True))
        return features.astype(np.float64), logits.astype(np.float64)

    @cached_property
    def _real_moments(self) -> tuple[np.ndarray, np.ndarray]:
        return moments(self._features(self._real)[0])

    def __call__(self, model: GAN, *, seed: int = 0) -> GenerationScores:
        """Score so many images of a generator."""
        made = model.sample(self._count, seed=seed)
        small, real = reduced(made), reduced(self._real)
        distance = frechet_distance(moments(small), moments(real))
        diversity = mean_distance(small) / max(mean_distance(real), 1e-12)
        protocol = {
            "images": self._count,
            "real": f"{len(self._real)} of {self._split.name}",
            "data_hash": self._split.hash,
        }
        if self._classifier is None:
            return GenerationScores(distance, diversity, protocol=protocol)
        features, logits = self._features(made)
        likely = np.exp(logits - logits.max(axis=1, keepdims=True))
        likely /= likely.sum(axis=1, keepdims=True)
        names = self._classifier.classes
        counts = np.bincount(likely.argmax(axis=1), minlength=len(names)) / len(made)
        return GenerationScores(
            distance,
            diversity,
            histogram=dict(zip(names, counts.tolist(), strict=True)),
            confidence=float(likely.max(axis=1).mean()),
            frechet=frechet_distance(moments(features), self._real_moments),
            protocol={**protocol, "classifier": self._classifier.kind},
        )


def evaluate(
    model: GAN | str | Path,
    split: LabelledSplit,
    *,
    classifier: ImageClassifier | str | Path | None = None,
    images: int = 1000,
    seed: int = 0,
) -> GenerationScores:
    """Score a generator against real images.

    Parameters
    ----------
    model
        A model, or what :func:`~dlmie.generation.model_files.load` takes.
    split
        ``LabelledImages("mnist.h5")["dev"]``.
    classifier
        A trained classifier with a hidden layer, or where it is: gives class histogram, confidence
        and the Fréchet distance in its features.
    images : int
        How many are made, and of how many real ones.
    seed : int
        Of the noise.

    Raises
    ------
    DataError
        The split has other images than the model or the classifier.
    """
    chosen = load(model) if isinstance(model, (str, Path)) else model
    check_fits(chosen, split)
    scorer = Scorer(split, opened_classifier(classifier), images=images)
    return scorer(chosen, seed=seed)


def opened_classifier(source: ImageClassifier | str | Path | None) -> ImageClassifier | None:
    """A classifier, loaded where it is named."""
    return load_classifier(source) if isinstance(source, (str, Path)) else source


def check_fits(model: GAN, split: LabelledSplit) -> None:
    """Refuse images of another shape than a model makes."""
    if model.shape != split.shape:
        raise DataError(
            f"the split {split.name} has images of {split.shape}, the model makes {model.shape}"
        )


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (features,) and covariance (features, features) of values (n, features)."""
    return values.mean(axis=0), np.atleast_2d(np.cov(values, rowvar=False))


def frechet_distance(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> float:
    """``‖μ - μ'‖² + tr(Σ + Σ' - 2 (Σ Σ')^½)`` of two normal distributions (Heusel et al. 2017).

    Parameters
    ----------
    one, other : (mean, covariance)

    Examples
    --------
    >>> one, other = (np.zeros(2), np.eye(2)), (np.ones(2), 4 * np.eye(2))
    >>> round(frechet_distance(one, other), 6)
    4.0
    """
    (mean, covariance), (other_mean, other_covariance) = one, other
    # The trace of the root by eigenvalues: those of a product of two covariances are not negative.
    products = np.linalg.eigvals(covariance @ other_covariance)
    root = np.sqrt(products.real.clip(0)).sum()
    difference = ((mean - other_mean) ** 2).sum()
    return float(difference + np.trace(covariance) + np.trace(other_covariance) - 2 * root)


def mean_distance(values: np.ndarray, *, limit: int = 300) -> float:
    """The mean Euclidean distance between any two of the first so many values (n, features)."""
    some = values[:limit]
    squares = (some**2).sum(axis=1)
    between = (squares[:, None] + squares[None] - 2 * some @ some.T).clip(0)
    pairs = len(some) * (len(some) - 1)
    return float(np.sqrt(between)[~np.eye(len(some), dtype=bool)].sum() / max(pairs, 1))


def reduced(images: np.ndarray) -> np.ndarray:
    """Images (n, rows, columns, channels) uint8 as means of 7 × 7 fields, 0 to 1: (n, features)."""
    count, rows, columns = images.shape[:3]
    edges = [np.linspace(0, size, min(_CELLS, size) + 1).astype(int) for size in (rows, columns)]
    values = images.astype(np.float64) / 255
    for axis, edge in enumerate(edges, 1):
        sums = np.add.reduceat(values, edge[:-1], axis=axis)
        widths = np.diff(edge).reshape(-1, *[1] * (3 - axis))
        values = sums / widths
    return values.reshape(count, -1)
