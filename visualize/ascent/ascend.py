"""The one loop that makes pictures: images changed step by step until an objective is high.

image ← parameterization ← optimizer ← gradient ← compiled objective ← transforms ← image
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from dlmie.data.images import valid_range
from dlmie.deprecation import renamed_arguments
from dlmie.errors import DlmieError
from dlmie.visualize.ascent.evaluation import Evaluator
from dlmie.visualize.ascent.objectives import Objective
from dlmie.visualize.ascent.objectives.terms import check_objective
from dlmie.visualize.ascent.optimizers import LBFGS, Adam, Optimizer
from dlmie.visualize.ascent.parameterizations import Parameterization, Pixels
from dlmie.visualize.ascent.regularizers import Regularizer
from dlmie.visualize.ascent.transforms import Linear, Transform


@dataclass
class Ascent:
    """The result of :func:`ascend`.

    Attributes
    ----------
    images : (batch, 3, H, W)
        In network units, within black and white.
    values : (steps, batch)
        The objective before each step.
    frames : list of (step, images)
        Copies on the way, as often as asked.
    """

    images: np.ndarray = field(repr=False)
    values: np.ndarray = field(repr=False)
    frames: list[tuple[int, np.ndarray]] = field(repr=False)


@renamed_arguments(rule="optimizer", parameterisation="parameterization")
def ascend(
    objective: Objective,
    start: np.ndarray,
    *,
    steps: int = 200,
    optimizer: Optimizer | LBFGS | None = None,
    regularizers: Sequence[Regularizer] = (),
    transforms: Sequence[Transform] = (),
    parameterization: Parameterization | None = None,
    clip: bool = True,
    best: bool = False,
    frames: Sequence[int] = (),
    seed: int = 0,
    progress: bool = False,
    label: str = "",
    any_size: bool = False,
    evaluator: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None,
    until: Callable[[int, np.ndarray, np.ndarray], bool] | None = None,
) -> Ascent:
    """Change images until an objective is high.

    Parameters
    ----------
    objective : Objective
        What is to be increased; one number per image.
    start : array
        The parameters to start from: for pixels, images (batch, 3, H, W) in network units.
    steps : int
    optimizer : Adam, Gradient, Progress or LBFGS
        How to step along the gradient (default: Adam).
    regularizers
        Steps on the image after each step, in this order.
    transforms
        Random shifts, scales, rotations and noise, drawn anew for each step.
    parameterization
        Pixels, or a Fourier spectrum.
    clip : bool
        Keep pixels between black and white.
    best : bool
        Return each image as it was when its objective was highest, not as it ended.
    frames : sequence of int
        Steps at which to keep a copy; 0 is the start.
    seed : int
        Of the transforms.
    progress : bool
        Show a bar with the objective's value.
    label : str
        What the bar calls this.
    any_size : bool
        Compile for images of any size, not of this one alone.
    evaluator : callable, optional
        images → (values, gradients), in place of the compiled objective: for tiles.
    until : callable, optional
        (step, images, values) → whether to stop before this step.

    Returns
    -------
    Ascent

    Raises
    ------
    DlmieError
        ``steps`` is less than 1; or L-BFGS is given what it cannot use.

    Examples
    --------
    >>> ascend(unit(net["logits"], 130), 0.1 * noise, steps=100).values[-1]   # doctest: +SKIP
    """
    check_objective(objective)
    if steps < 1:
        raise DlmieError(f"steps must be at least 1, not {steps}")
    if isinstance(optimizer, LBFGS):
        asked = {"regularizers": regularizers, "transforms": transforms, "best": best}
        ignored = [name for name, value in {**asked, "until": until}.items() if value]
        if ignored:
            raise DlmieError(
                f"L-BFGS cannot use {', '.join(ignored)}: leave that out, or choose another "
                "optimizer, such as Adam"
            )
    parameterization = parameterization or Pixels()
    network = objective.network
    shape = parameterization.decode(start[:1]).shape[-2:]
    evaluate = evaluator or Evaluator(objective, None if any_size else shape, progress=progress)
    limits = valid_range(network.preprocessing, network.input.type.dtype) if clip else None
    history = _History(frames, steps, progress, label)
    optimizer = optimizer or Adam()
    if isinstance(optimizer, LBFGS):
        return _minimize(evaluate, start, parameterization, optimizer, steps, limits, history)

    rng = np.random.default_rng(seed)
    step_of, p, highest = optimizer.begin(), start.copy(), _Best()
    with history:
        for step in range(steps):
            images = parameterization.decode(p)
            there, back = _draw(transforms, rng, shape)
            values, gradient = evaluate(there(images))
            history(step, images, values)
            if best:
                highest.offer(images, values)
            if until is not None and until(step, images, values):
                break
            gradient = back(gradient)
            p = p + step_of(parameterization.pullback(p, gradient), step)
            if parameterization.pixels:
                if limits is not None:
                    p = np.clip(p, *limits)
                for regularizer in regularizers:
                    p = regularizer(p, gradient, step)
        images = _within(parameterization.decode(p), limits)
        if best:
            highest.offer(images, evaluate(images)[0])
            images = highest.images
        history.last(images)
    return history.result(images)


def frame_steps(steps: int, frames: int) -> tuple[int, ...]:
    """``frames`` steps spread evenly from 0 to ``steps``, each once."""
    return tuple(np.unique(np.linspace(0, steps, frames).round().astype(int)).tolist())


class _Best:
    """Each image of a batch as it was when its objective was highest."""

    images: np.ndarray
    values: np.ndarray | None = None

    def offer(self, images: np.ndarray, values: np.ndarray) -> None:
        if self.values is None:
            self.images, self.values = images.copy(), values.copy()
            return
        higher = values > self.values
        self.images[higher], self.values[higher] = images[higher], values[higher]


def _draw(
    transforms: Sequence[Transform], rng: np.random.Generator, shape: tuple[int, int]
) -> tuple[Linear, Linear]:
    """One random map after the other, and their adjoints in the reverse order."""
    pairs = [transform.draw(rng, shape) for transform in transforms]

    def there(x: np.ndarray) -> np.ndarray:
        for forward, _ in pairs:
            x = forward(x)
        return x

    def back(g: np.ndarray) -> np.ndarray:
        for _, adjoint in reversed(pairs):
            g = adjoint(g)
        return g

    return there, back


def _within(images: np.ndarray, limits: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
    return images if limits is None else np.clip(images, *limits)


def _minimize(
    evaluate: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    start: np.ndarray,
    parameterization: Parameterization,
    optimizer: LBFGS,
    steps: int,
    limits: tuple[np.ndarray, np.ndarray] | None,
    history: _History,
) -> Ascent:
    """All images together by L-BFGS-B: float32 line searches stall, so SciPy works in float64."""
    from scipy.optimize import Bounds, minimize

    images = values = np.zeros(0)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal images, values
        p = flat.reshape(start.shape).astype(start.dtype)
        images = parameterization.decode(p)
        values, gradient = evaluate(images)
        down = -parameterization.pullback(p, gradient).astype(np.float64).ravel()
        return -float(values.astype(np.float64).sum()), down

    def callback(flat: np.ndarray) -> None:
        history(len(history.values), images, values)

    bounds = None
    if limits is not None and parameterization.pixels:
        low, high = (np.broadcast_to(a, start.shape).ravel() for a in limits)
        bounds = Bounds(low.astype(np.float64), high.astype(np.float64))
    with history:
        result = minimize(
            loss,
            start.astype(np.float64).ravel(),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            callback=callback,
            options={"maxiter": steps, "maxfun": 2 * steps + 10, "maxcor": optimizer.memory}
            | {"ftol": 0.0, "gtol": 0.0},
        )
        images = parameterization.decode(result.x.reshape(start.shape).astype(start.dtype))
        images = _within(images, limits)
        history.last(images)
    return history.result(images)


class _History:
    """Keeps values and frames, and draws the bar."""

    def __init__(
        self,
        frames: Sequence[int],
        steps: int,
        progress: bool,
        label: str,
    ) -> None:
        from dlmie.progress import Bar

        self.wanted, self.steps = set(frames), steps
        self.values: list[np.ndarray] = []
        self.frames: list[tuple[int, np.ndarray]] = []
        self.progress = progress
        self.bar = Bar(
            total=steps,
            desc=label or None,
            disable=not progress,
            file=sys.stderr,
            unit="step",
            leave=False,
        )

    def __enter__(self) -> _History:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def __call__(self, step: int, images: np.ndarray, values: np.ndarray) -> None:
        self.values.append(np.array(values))
        if step in self.wanted:
            self.frames.append((step, images.copy()))
        self.bar.update()
        if self.progress:
            self.bar.set_postfix_str(f"{float(np.mean(values)):.4g}", refresh=False)

    def last(self, images: np.ndarray) -> None:
        """The picture after the last step."""
        done = len(self.values)
        if done in self.wanted or self.steps in self.wanted:
            self.frames.append((done, images.copy()))

    def result(self, images: np.ndarray) -> Ascent:
        values = np.array(self.values) if self.values else np.zeros((0, len(images)))
        return Ascent(images, values, self.frames)
