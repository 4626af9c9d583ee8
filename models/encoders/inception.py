"""Inception-v3 (Szegedy et al., 2016): convolutions side by side, factored into thin ones."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from pytensor.graph.basic import Variable

from dlmie.errors import WeightsError
from dlmie.graph.network import View
from dlmie.layers import Conv2D, Linear
from dlmie.models.encoders.image_network import (
    Activation,
    ImageNetwork,
    Weights,
    check_images,
    first_values,
)
from dlmie.models.encoders.layouts import Layout, Norm, Rule, Shape, folded, permuted, same
from dlmie.models.encoders.preprocessings import minus_one_to_one
from dlmie.ops.conv.activation import relu as default_relu
from dlmie.ops.conv.concatenation import concatenate_channels
from dlmie.ops.losses.cross_entropy import softmax
from dlmie.ops.pool.pool import average_pool, global_average_pool, max_pool
from dlmie.typing import Json, JsonObject

EPSILON = 1e-3  # of the batch norms in the weight files
INPUT, AVERAGE = "", "average"  # what the first convolution of a branch reads


class Unit(NamedTuple):
    """A convolution with ReLU; the batch norm between them is folded into it."""

    name: str
    filters: int
    size: tuple[int, int] = (1, 1)
    reads: str = INPUT  # another unit of its block; INPUT; or AVERAGE, what is pooled of the input
    stride: int = 1
    valid: bool = False  # no padding


class Block(NamedTuple):
    """Units side by side; those that no other reads are concatenated, in this order."""

    units: tuple[Unit, ...]
    max_pooled: bool = False  # and after them the input, pooled 3 × 3 with stride 2


def _chain(name: str, *sizes: tuple[int, tuple[int, int]], halves: bool = False) -> Iterator[Unit]:
    """A branch ``NAME_1``, ``NAME_2``, …: each unit reads the one before it; the last may halve."""
    for i, (filters, size) in enumerate(sizes, 1):
        last = halves and i == len(sizes)
        reads = INPUT if i == 1 else f"{name}_{i - 1}"
        yield Unit(f"{name}_{i}", filters, size, reads, stride=2 if last else 1, valid=last)


def _fine(pooled: int) -> Block:
    """A block on the grid of 35 × 35."""
    return Block(
        (
            Unit("branch1x1", 64),
            *_chain("branch5x5", (48, (1, 1)), (64, (5, 5))),
            *_chain("branch3x3dbl", (64, (1, 1)), (96, (3, 3)), (96, (3, 3))),
            Unit("branch_pool", pooled, reads=AVERAGE),
        )
    )


def _middle(q: int) -> Block:
    """A block on the grid of 17 × 17: filters of 7 × 7 as 1 × 7 and 7 × 1 (figure 6)."""
    wide, high = (1, 7), (7, 1)
    return Block(
        (
            Unit("branch1x1", 192),
            *_chain("branch7x7", (q, (1, 1)), (q, wide), (192, high)),
            *_chain("branch7x7dbl", (q, (1, 1)), (q, high), (q, wide), (q, high), (192, wide)),
            Unit("branch_pool", 192, reads=AVERAGE),
        )
    )


def _coarse() -> Block:
    """A block on the grid of 8 × 8: branches that fork (figure 7)."""
    return Block(
        (
            Unit("branch1x1", 320),
            Unit("branch3x3_1", 384),
            Unit("branch3x3_2a", 384, (1, 3), "branch3x3_1"),
            Unit("branch3x3_2b", 384, (3, 1), "branch3x3_1"),
            *_chain("branch3x3dbl", (448, (1, 1)), (384, (3, 3))),
            Unit("branch3x3dbl_3a", 384, (1, 3), "branch3x3dbl_2"),
            Unit("branch3x3dbl_3b", 384, (3, 1), "branch3x3dbl_2"),
            Unit("branch_pool", 192, reads=AVERAGE),
        )
    )


#: The first layers; ``POOLS`` says where a max pool follows.
STEM = (
    Unit("conv1a", 32, (3, 3), stride=2, valid=True),
    Unit("conv2a", 32, (3, 3), valid=True),
    Unit("conv2b", 64, (3, 3)),
    Unit("conv3b", 80, valid=True),
    Unit("conv4a", 192, (3, 3), valid=True),
)
POOLS = {"conv2b": "pool1", "conv4a": "pool2"}  # after which unit: 3 × 3, stride 2
#: ``mixed0`` to ``mixed10``, as Keras numbers them.
BLOCKS = (
    *(_fine(pooled) for pooled in (32, 64, 64)),
    Block(
        (
            Unit("branch3x3", 384, (3, 3), stride=2, valid=True),
            *_chain("branch3x3dbl", (64, (1, 1)), (96, (3, 3)), (96, (3, 3)), halves=True),
        ),
        max_pooled=True,
    ),
    *(_middle(q) for q in (128, 160, 160, 192)),
    Block(
        (
            *_chain("branch3x3", (192, (1, 1)), (320, (3, 3)), halves=True),
            *_chain(
                "branch7x7x3",
                *((192, (1, 1)), (192, (1, 7)), (192, (7, 1)), (192, (3, 3))),
                halves=True,
            ),
        ),
        max_pooled=True,
    ),
    *(_coarse() for _ in range(2)),
)
# torchvision's names of the stem and the blocks.
_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
_MIXED = (*(f"Mixed_5{letter}" for letter in "bcd"), *(f"Mixed_6{letter}" for letter in "abcde"))
_MIXED += tuple(f"Mixed_7{letter}" for letter in "abc")


class InceptionV3(ImageNetwork):
    """Inception-v3: 94 convolutions in a stem and eleven blocks of branches side by side.

    Layers: ``conv1a`` (batch, 32, 149, 149), ``conv2a``, ``conv2b``, ``pool1`` (64, 73, 73),
    ``conv3b``, ``conv4a``, ``pool2`` (192, 35, 35); ``mixed0`` … ``mixed2`` (288, 35, 35),
    ``mixed3`` … ``mixed7`` (768, 17, 17), ``mixed8`` … ``mixed10`` (2048, 8, 8) as Keras numbers
    them; ``pool`` (2048,), ``logits``, ``probabilities``.  Inside a block the names are
    torchvision's: ``mixed0/branch5x5_2``; ``NAME/pre`` before a ReLU.

    Batch norms are folded into the convolutions when weights are read, in double precision.

    Parameters
    ----------
    weights : path or None
        A file in the layout of Keras, with or without the top, of torchvision, or of dlmie; None
        for random weights.  All of them expect pixels scaled to -1..1: torchvision's network turns
        its own normalization into that.
    seed : int
        Of random weights.
    size : int or None
        Height and width of the images of ``net.input``; None for any.
    top : bool, optional
        Whether to have ``logits`` and ``probabilities``; by default, unless the weight file lacks
        them.
    count_include_padding : bool, optional
        Whether the zeros around the image count in the average pools of the blocks, as they do in
        torchvision, or only what is there, as in TensorFlow and Keras.  Default: as the network
        was trained, by the layout of the file; without one, as in Keras.
    width : float
        Factor on the filters of all convolutions: smaller networks to try things with.
    classes : int
    dtype : str
    preprocessing : str, optional
        What the weights expect of images, such as "torchvision": see :class:`ImageNetwork`.

    Raises
    ------
    WeightsError
        The file does not fit; lists every mismatch.

    Examples
    --------
    >>> net = InceptionV3(width=0.125)
    >>> net["mixed7"].type.shape, net["pool"].type.shape
    ((None, 96, 17, 17), (None, 256))
    """

    name = "inception-v3"
    minimum = 75
    known_layouts = "Keras: conv2d_1/kernel …; torchvision: Conv2d_1a_3x3.conv.weight …"

    def __init__(
        self,
        weights: Weights = None,
        *,
        seed: int = 0,
        size: int | None = 299,
        top: bool | None = None,
        count_include_padding: bool | None = None,
        width: float = 1.0,
        classes: int = 1000,
        dtype: str = "float32",
        preprocessing: str | None = None,
    ) -> None:
        self.preprocessing = minus_one_to_one(size or 299)
        self.width = width
        self.chosen_padding = count_include_padding
        self.count_include_padding = bool(count_include_padding)
        self.top = top is not False
        self.adaptable = True
        self.adaptable_top = top is None
        start = first_values(weights, seed, dtype)
        self.units: dict[str, Conv2D] = {}
        channels = 3
        for name, block in _blocks():
            channels_of = {INPUT: channels, AVERAGE: channels}
            for unit in block.units:
                filters = max(1, round(width * unit.filters))
                self.units[_joined(name, unit.name)] = Conv2D(
                    f"/inception_v3/{_joined(name, unit.name)}",
                    channels_of[unit.reads],
                    filters,
                    unit.size,
                    stride=unit.stride,
                    padding="valid" if unit.valid else (unit.size[0] // 2, unit.size[1] // 2),
                    **start,
                )
                channels_of[unit.name] = filters
            ends = [channels_of[unit.name] for unit in _ends(block)]
            channels = sum(ends) + (channels if block.max_pooled else 0)
        self.output = Linear("/inception_v3/logits", channels, classes, **start)
        super().__init__(
            weights, size=size, classes=classes, dtype=dtype, preprocessing=preprocessing
        )
        self.adaptable = False

    @property
    def options(self) -> dict[str, Json]:
        options = super().options
        if self.count_include_padding or self.chosen_padding is not None:
            options["count_include_padding"] = self.count_include_padding
        if not self.top:
            options["top"] = False
        if self.width != 1:
            options["width"] = self.width
        return options

    def build(self, x: Variable, *, relu: Activation | None = None) -> dict[str, Variable]:
        """Layers by name on images x (batch, 3, rows, columns), from input to output."""
        check_images(x, self.minimum, self.name)
        relu = relu or default_relu
        layers: dict[str, Variable] = {}
        for name, block in _blocks():
            made = {INPUT: x}
            if any(unit.reads == AVERAGE for unit in block.units):
                made[AVERAGE] = average_pool(
                    x, 3, 1, 1, count_include_padding=self.count_include_padding
                )
            for unit in block.units:
                layer = _joined(name, unit.name)
                layers[f"{layer}/pre"] = self.units[layer](made[unit.reads])
                made[unit.name] = layers[layer] = relu(layers[f"{layer}/pre"])
            ends = [made[unit.name] for unit in _ends(block)]
            if block.max_pooled:
                ends.append(max_pool(x, 3, 2))
            x = concatenate_channels(ends)
            if name:
                layers[name] = x
            elif block.units[0].name in POOLS:
                x = layers[POOLS[block.units[0].name]] = max_pool(x, 3, 2)
        layers["pool"] = global_average_pool(x)
        if self.top:
            layers["logits"] = self.output(layers["pool"])
            layers["probabilities"] = softmax(layers["logits"])
        return layers

    # Weights

    def header(self) -> JsonObject:
        return {**super().header(), "count_include_padding": self.count_include_padding}

    def adapt(self, stored: Collection[str], header: Mapping[str, Json]) -> None:
        counted = bool(header.get("count_include_padding", f"{_STEM[0]}.conv.weight" in stored))
        if self.chosen_padding is not None:
            counted = self.chosen_padding
        top = self.top
        if self.adaptable and self.adaptable_top:
            top = any(_TOP.fullmatch(name) for name in stored)
        if (counted, top) == (self.count_include_padding, self.top):
            return
        if not self.adaptable:
            whose = "torchvision" if counted else "Keras"
            raise WeightsError(
                f"these weights were trained with the average pools of {whose}: make the network "
                f"with them, InceptionV3(weights), or with count_include_padding={counted}"
            )
        self.count_include_padding, self.top = counted, top
        View.__init__(self, self, self.input, self.build(self.input))

    def omits(self, name: str) -> bool:
        return not self.top and _TOP.fullmatch(name) is not None

    def layout(self, stored: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> Layout | None:
        if f"{_STEM[0]}.conv.weight" in stored:
            rules = list(self._torchvision(shapes))
        elif any(_CONVOLUTION.fullmatch(name) for name in stored):
            rules = list(self._keras(stored, shapes))
        else:
            return None
        has_top = any(_TOP.fullmatch(name) for name in stored)
        return Layout(
            rules,
            minus_one_to_one(self.preprocessing.size),
            ignored=lambda name: _UNUSED.search(name) is not None or self.omits(name),
            advice="" if has_top or not self.top else "pass top=False to do without logits",
        )

    def _torchvision(self, shapes: Mapping[str, Shape]) -> Iterator[Rule]:
        names = iter(_STEM)
        parts = ("weight", "bias", "running_mean", "running_var")
        for layer, unit in self.units.items():
            block, _, branch = layer.rpartition("/")
            module = (
                f"{_MIXED[int(block.removeprefix('mixed'))]}.{branch}" if block else next(names)
            )
            norm = Norm(*(f"{module}.bn.{part}" for part in parts))
            yield folded(unit, f"{module}.conv.weight", norm, EPSILON)
        yield from self._top(("fc.weight", "fc.bias"), shapes, turned=True)

    def _keras(self, stored: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> Iterator[Rule]:
        """Layers are numbered, and scales left out; in files of Keras 3 the arrays are, too.

        Older files number layers as they were made, from any number on; newer ones as they follow
        from each other in the graph: :func:`_keras_3_order`.
        """
        modern = any(_KERAS_3.fullmatch(name) for name in stored)
        order = _keras_3_order() if modern else list(self.units)
        kernels = _by_number(stored, "kernel")
        norms = {part: _by_number(stored, part) for part in ("beta", "mean", "variance")}
        for place, layer in enumerate(order):
            kernel, beta, mean, variance = (
                names[place] if place < len(names) else f"the {part} of convolution {place + 1}"
                for part, names in (("kernel", kernels), *norms.items())
            )
            yield folded(
                self.units[layer], kernel, Norm(None, beta, mean, variance), EPSILON, (3, 2, 0, 1)
            )
        top = sorted(n for n in stored if _TOP.fullmatch(n))
        names = (top[0], top[1]) if modern and len(top) == 2 else _KERAS_TOP
        yield from self._top(names, shapes, turned=False)

    def _top(
        self, theirs: tuple[str, str], shapes: Mapping[str, Shape], *, turned: bool
    ) -> Iterator[Rule]:
        if self.top:
            W, b = "/inception_v3/logits/W", "/inception_v3/logits/b"
            axes = (1, 0) if turned else (0, 1)
            yield permuted(theirs[0], W, shapes[W], axes)
            yield same(theirs[1], b, shapes[b])


_TOP = re.compile(
    r"(?:.*/)?(?:predictions/(?:kernel|bias)|dense(?:_\d+)?/vars/[01]|logits/[Wb])|fc\.(?:weight|bias)"
)
_UNUSED = re.compile(r"^AuxLogits\.|num_batches_tracked$")  # in torchvision's files
_KERAS_3 = re.compile(r"(?:.*/)?conv2d(?:_\d+)?/vars/0")
_CONVOLUTION = re.compile(r"(?:.*/)?conv2d(?:_\d+)?/(?:kernel|vars/0)")
_KERAS_TOP = ("predictions/kernel", "predictions/bias")
_KERAS_PARTS = {
    "kernel": r"(?:.*/)?conv2d(?:_(\d+))?/(?:kernel|vars/0)",
    "beta": r"(?:.*/)?batch_normalization(?:_(\d+))?/(?:beta|vars/0)",
    "mean": r"(?:.*/)?batch_normalization(?:_(\d+))?/(?:moving_mean|vars/1)",
    "variance": r"(?:.*/)?batch_normalization(?:_(\d+))?/(?:moving_variance|vars/2)",
}


def _by_number(stored: Collection[str], part: str) -> list[str]:
    """Names of this part of all convolutions in Keras's file, in the order of their numbers."""
    matches = filter(None, (re.fullmatch(_KERAS_PARTS[part], name) for name in stored))
    return [match[0] for match in sorted(matches, key=lambda match: int(match[1] or 0))]


def _blocks() -> Iterator[tuple[str, Block]]:
    """The stem, each unit of it a block without a name, and the blocks by their names."""
    for unit in STEM:
        yield "", Block((unit,))
    for i, block in enumerate(BLOCKS):
        yield f"mixed{i}", block


def _joined(block: str, unit: str) -> str:
    return f"{block}/{unit}" if block else unit


def _ends(block: Block) -> list[Unit]:
    """The units that no other reads."""
    read = {unit.reads for unit in block.units}
    return [unit for unit in block.units if unit.name not in read]


def _keras_3_order() -> list[str]:
    """The convolutions as Keras 3 lists them: the farthest from the end of its block first.

    Equally far ones come as they were made.  The two ends of a fork are concatenated before the
    block is, which makes them farther.
    """
    order: list[str] = []
    for name, block in _blocks():
        far = {unit.name: _distance(unit, block.units) for unit in block.units}
        by_distance = sorted(block.units, key=lambda unit: -far[unit.name])  # a stable sort
        order += [_joined(name, unit.name) for unit in by_distance]
    return order


def _distance(unit: Unit, units: Sequence[Unit]) -> float:
    readers = [other for other in units if other.reads == unit.name]
    if readers:
        return 1 + max(_distance(other, units) for other in readers)
    forked = sum(other.reads == unit.reads for other in units) > 1
    return 0.5 if forked and unit.reads not in (INPUT, AVERAGE) else 0.0
