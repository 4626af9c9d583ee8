"""Fooling images: photographs changed so little that nobody sees it, until the network errs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dlmie.data.images import ImageSource, deprocess, pixel_size, valid_range
from dlmie.errors import DlmieError
from dlmie.text import suggest
from dlmie.visualize.ascent.ascend import Ascent, ascend, frame_steps
from dlmie.visualize.ascent.inputs import network_input
from dlmie.visualize.ascent.models import Model, describe_model
from dlmie.visualize.ascent.targets import Target, find_target
from dlmie.visualize.figures.compositing import stretch
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.manifests import make_manifest
from dlmie.visualize.figures.panels import Panel
from dlmie.visualize.figures.sources import SourceImage

METHODS = ("pgd", "fgsm", "step", "margin")
BOUNDED = ("pgd", "fgsm")
NORMS = ("linf", "l2")


class FoolingWarning(UserWarning):
    """The network was not fooled within the budget and the steps."""


def fool(
    model: Model,
    image: ImageSource,
    target: int | str | None = None,
    *,
    method: str = "pgd",
    norm: str = "linf",
    budget: float | None = None,
    confidence: float = 0.9,
    steps: int = 100,
    rate: float | None = None,
    magnify: float = 10.0,
    frames: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> Figure:
    """Change a photograph until a network sees another class, or a captioner finds a sentence.

    Parameters
    ----------
    model : Network or ImageCaptioner
    image
        Anything that ``load_image`` reads; it is brought to the network's size.
    target : int or str, optional
        The class to be seen, or the sentence to be found (default: the second most likely one).
    method : str
        ``pgd`` (Madry et al. 2018) and ``fgsm`` (one step; Goodfellow et al. 2015) stay within a
        budget; ``step`` follows the gradient scaled to length ``rate`` and ``margin`` the gap to
        the present class (cs231n), without any.
    norm : "linf" or "l2"
        How ``pgd`` and ``fgsm`` measure their budget.
    budget : float, optional
        The largest change, in gray levels of 0..255: of any value for "linf" (default 8; as saved,
        a whole number), the root of the mean square for "l2" (default 4).
    confidence : float
        Stop when the class has this probability; a sentence, when a beam search finds it.
    steps : int
        At most.
    rate : float, optional
        Length of a step: gray levels for ``pgd`` (default: a fifth of the budget), root mean
        square ones for ``step`` (default 0.5); a factor for ``margin`` (default 1).
    magnify : float
        Of the difference in the figure's last panel.
    frames : int
        Pictures of an animation.
    seed : int
    progress : bool

    Returns
    -------
    Figure
        ``image`` is the fooling image at the network's size: saved as PNG, it fools again.
        ``figure()`` shows original, fooling image, difference and magnified difference.
        ``manifest["results"]``: ``fooled``, ``from`` and ``to``, probabilities (of a sentence their
        logarithms), steps, largest and root mean square change.

    Warns
    -----
    FoolingWarning
        It did not succeed.

    Examples
    --------
    >>> fool(net, "dog.jpg", target=130, confidence=0.99).save("fooled.png")   # doctest: +SKIP
    """
    if method not in METHODS:
        raise DlmieError(f"there is no method {method!r}{suggest(method, METHODS)}")
    if norm not in NORMS:
        raise DlmieError(f"there is no norm {norm!r}{suggest(norm, NORMS)}")
    source = SourceImage.read(image)
    chosen = find_target(
        model, source.pixels, target, confidence=confidence, margin=method != "step"
    )
    network = chosen.network
    x = network_input(network, source.pixels)
    limit = budget if budget is not None else (8.0 if norm == "linf" else 4.0)
    if norm == "linf" and limit < 1 and method in BOUNDED:
        raise DlmieError(
            f"budget {limit:g}: a saved picture changes by whole gray levels, by 1 at least"
        )
    attack = _Attack(chosen, x, limit, norm, method, rate)
    kept = frame_steps(steps, frames) if frames else ()
    run = attack.run(1 if method == "fgsm" else steps, kept, progress)

    fooled = deprocess(run.images[0], network.preprocessing)
    original = deprocess(x[0], network.preprocessing)
    difference = fooled.astype(np.float64) - original
    results, title, title_after = chosen.report(original, fooled)
    if not results["fooled"]:
        import warnings

        warnings.warn(
            f"not fooled: after {len(run.values)} steps it is {title_after}, not {chosen.label}; "
            "allow a larger budget or more steps",
            FoolingWarning,
            stacklevel=2,
        )
    results |= {
        "steps": len(run.values),
        "largest_change": float(np.abs(difference).max()),
        "rms_change": float(np.sqrt(np.mean(difference**2))),
    }
    arguments = {
        "target": chosen.target,
        "method": method,
        "norm": norm,
        "budget": limit,
        "confidence": confidence,
        "steps": steps,
        "rate": rate,
        "magnify": magnify,
        "frames": frames,
        "seed": seed,
    }
    magnified = np.clip(128 + magnify * difference, 0, 255).astype(np.uint8)
    panels = [
        Panel(original, title),
        Panel(fooled, title_after),
        Panel(stretch(difference), f"difference, at most {results['largest_change']:.0f} levels"),
        Panel(magnified, f"magnified difference ({magnify:g}×)"),
    ]
    return Figure(
        fooled,
        panels,
        columns=4,
        manifest=make_manifest(
            "fool",
            describe_model(model),
            arguments,
            images={"image": source.describe()},
            results=results,
        ),
        arrays={"difference": difference, "values": run.values, "images": run.images},
        frames=[deprocess(i[0], network.preprocessing) for _, i in run.frames],
        photo=original,
    )


class _Attack:
    """One attack on one image (1, 3, H, W)."""

    def __init__(
        self,
        target: Target,
        x: np.ndarray,
        budget: float,
        norm: str,
        method: str,
        rate: float | None,
    ) -> None:
        self.target, self.network, self.x = target, target.network, x
        self.budget, self.norm, self.method, self.rate = budget, norm, method, rate
        self.level = pixel_size(self.network.preprocessing, x.dtype.name)

    def run(self, steps: int, frames: tuple[int, ...], progress: bool) -> Ascent:
        return ascend(
            self.target.objective,
            self.x,
            steps=steps,
            optimizer=self,
            regularizers=[self._project],
            frames=frames,
            progress=progress,
            label="fooling",
            until=None if self.method == "fgsm" else self._done,
        )

    def begin(self) -> Callable[[np.ndarray, int], np.ndarray]:
        """The optimizer: from gradients to steps, in network units."""

        def step(gradient: np.ndarray, t: int) -> np.ndarray:
            if self.method == "margin":
                # A step of one along margin × gradient, the margin at least 100 (cs231n), there in
                # gray levels: both the step and the gradient change with the unit.
                margin = max(-float(self.last_margin), 100.0)
                move = margin * gradient * self.level**2 * (self.rate or 1.0)
                return move.astype(gradient.dtype)
            direction = gradient * self.level  # as if pixels were gray levels
            rms = np.sqrt(np.mean(np.square(direction, dtype=np.float64))) + 1e-20
            if self.method == "step":
                return (direction / rms * (self.rate or 0.5) * self.level).astype(gradient.dtype)
            length = self.budget if self.method == "fgsm" else self.rate or self.budget / 5
            unit_step = np.sign(direction) if self.norm == "linf" else direction / rms
            return (unit_step * length * self.level).astype(gradient.dtype)

        return step

    def _project(self, image: np.ndarray, gradient: np.ndarray, step: int) -> np.ndarray:
        """Back to within the budget, and within black and white."""
        if self.method not in BOUNDED:
            return image
        change = (image - self.x) / self.level
        if self.norm == "linf":
            most = np.floor(self.budget)  # so that rounding when it is saved adds nothing
            change = np.clip(change, -most, most)
        else:
            rms = float(np.sqrt(np.mean(np.square(change, dtype=np.float64))))
            most = np.sqrt(max(self.budget**2 - 1 / 12, 0))  # rounding adds a variance of 1/12
            change = change * min(1.0, most / max(rms, 1e-12))
        low, high = valid_range(self.network.preprocessing, self.x.dtype.name)
        result: np.ndarray = np.clip(self.x + change * self.level, low, high).astype(self.x.dtype)
        return result

    def _done(self, step: int, images: np.ndarray, values: np.ndarray) -> bool:
        """Whether the image as it would be saved, rounded to gray levels, fools."""
        self.last_margin = float(values[0])
        saved = deprocess(images[0], self.network.preprocessing)
        return self.target.reached(saved, self.last_margin, step)
