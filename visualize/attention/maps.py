"""Where a captioner looked: one panel a word, with its attention over the photograph.

The attention grid lies over the squashed photograph that the encoder saw, so it is stretched back
over the photograph's own aspect.  All words of a figure share one colour scale, which is drawn.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlmie.data.images import ImageSource, load_image, resize_image
from dlmie.errors import DlmieError
from dlmie.visualize.figures.figure import Figure, Panel, Scale, colour
from dlmie.visualize.figures.manifests import make_manifest
from dlmie.visualize.figures.text_rendering import scale_line, sentence_line

UPSAMPLINGS = ("smooth", "block")
LAYOUTS = ("grid", "strip")
_MAX_SHIFT = 0.75  # pixels by which smoothing may move the centre of a cell at the border
_EVEN = 0.95  # attention that uses more of the cells than this, in effect, looks nowhere
_SECONDS = 0.9  # a word is shown in the animation
_GREY = 128  # beneath the colours of the drawn scale


class FlatAttention(UserWarning):
    """The maps of a caption are nearly even: they do not say where the captioner looked."""


def attend(
    caption: Any,
    image: ImageSource,
    *,
    layout: str = "grid",
    columns: int | None = None,
    upsampling: str = "smooth",
    strength: float = 0.6,
    limit: float | None = None,
    pixels: int = 320,
    made_by: Mapping[str, Any] | None = None,
) -> Figure:
    """Draw where a captioner looked when it said each word.

    Parameters
    ----------
    caption : Caption
        With ``text`` and ``alphas`` (words, rows, columns), one map for each word of the text, from
        the beam that said them; ``gates`` (words,) are written beside the words.
    image
        The photograph, as :func:`~dlmie.data.images.load_image` takes it; of any aspect.
    layout : str
        ``"grid"``, or ``"strip"``: one row.
    columns : int, optional
        Of the grid; default: so many that the figure is about square.
    upsampling : str
        From cells to pixels, see :func:`upsample`.
    strength : float
        Of the colours over the grey photograph, from 0 to 1.
    limit : float, optional
        The weight of a cell at which the colour scale ends; default: the highest of the caption.
        Give it to compare figures.
    pixels : int
        Longer side of a panel.
    made_by : mapping, optional
        What said the caption, for the manifest: captioner, decoding.

    Returns
    -------
    Figure
        ``.save("a.png")``, ``.pdf``, ``.svg``; ``.gif``: word after word. ``arrays["alphas"]`` are
        the maps; the manifest holds each word's entropy.

    Raises
    ------
    DlmieError
        The caption has no maps, or not one a word; an unknown layout or upsampling.

    Warns
    -----
    FlatAttention
        The maps are nearly even, or nearly the same for all words.

    Examples
    --------
    >>> best = dlmie.load("runs/sat")("dog.jpg")[0]                     # doctest: +SKIP
    >>> attend(best, "dog.jpg").save("dog-attention.png")               # doctest: +SKIP
    """
    _check_choice("layout", layout, LAYOUTS)
    words, alphas = _maps_of(caption)
    gates = getattr(caption, "gates", None)
    _warn_if_flat(alphas)
    photo = _fit(load_image(image), pixels)
    highest = float(alphas.max(initial=0)) if limit is None else float(limit)
    grey = np.repeat(photo.mean(axis=2, keepdims=True), 3, axis=2)
    maps = upsample(alphas, photo.shape[:2], upsampling) / max(highest, 1e-12)
    shown = [_blend(grey, each, strength) for each in maps]
    titles = [
        word if gates is None else f"{word}  β {float(gate):.2f}"
        for word, gate in zip(words, words if gates is None else gates, strict=True)
    ]
    if layout == "strip":
        columns = len(words) + 1
    panels = [Panel(photo), *(Panel(x, title) for x, title in zip(shown, titles, strict=True))]
    about_square, side = _layout(len(panels), photo.shape[:2])
    ramp = np.linspace(0, 1, 256)[None]
    scale = Scale(
        _blend(np.full((1, 256, 3), _GREY), ramp, strength)[0], 0.0, highest, "attention on a cell"
    )
    return Figure(
        None,
        panels,
        columns=columns or about_square,
        manifest=make_manifest(
            "attend",
            dict(made_by or {}),
            {
                "layout": layout,
                "columns": columns,
                "upsampling": upsampling,
                "strength": strength,
                "limit": limit,
                "pixels": pixels,
            },
            images={"image": image},
            results=_results(caption, words, alphas, gates, highest),
        ),
        arrays={"alphas": alphas},
        frames=_frames(photo, shown, words, scale),
        still="" if words else "the caption is empty: there is no word to show",
        seconds=_SECONDS,
        photo=photo,
        scale=scale if words else None,
        side=side,
    )


def upsample(alphas: np.ndarray, size: tuple[int, int], method: str = "smooth") -> np.ndarray:
    """Spread the weights of a grid over pixels: each cell's weight stays over that cell.

    ``"block"`` gives each pixel the weight of its cell.  ``"smooth"`` then blurs by a Gaussian,
    reflected at the border, of at most a third of a cell: an even map stays even, nothing becomes
    negative, no weight is lost, and the centre of a cell's weight stays where it is inside the
    picture.  A cell at the border cannot have all that *and* keep its centre: a blur of σ pixels
    moves it inwards by σ²/(2 s) for cells of s pixels.  σ is chosen so that this is at most 0.75
    pixels; the σ = 20 of the paper's figures (cells of 16 pixels) moves it by 10.

    Parameters
    ----------
    alphas : (…, rows, columns)
    size : (height, width)
        In pixels; need not be multiples of the grid.
    method : str
        ``"smooth"`` or ``"block"``.

    Returns
    -------
    numpy.ndarray
        (…, height, width) float64, weights of cells: the mean over the pixels is the mean over
        the cells.

    Examples
    --------
    >>> upsample(np.array([[0.0, 1.0]]), (2, 4), "block")
    array([[0., 0., 1., 1.],
           [0., 0., 1., 1.]])
    """
    _check_choice("upsampling", method, UPSAMPLINGS)
    down, across = (
        _spread(pixels, cells, method)
        for pixels, cells in zip(size, alphas.shape[-2:], strict=True)
    )
    # Two large products instead of two small ones for each map.
    wide = np.tensordot(alphas, across, axes=(-1, 1))  # (…, rows, width)
    return np.moveaxis(np.tensordot(wide, down, axes=(-2, 1)), -1, -2)


def _spread(pixels: int, cells: int, method: str) -> np.ndarray:
    """(pixels, cells): what each pixel along an axis takes from each cell; the rows sum to 1."""
    edges = np.arange(cells + 1) * (pixels / cells)
    left, right = edges[:-1], edges[1:]
    start = np.arange(pixels)[:, None]
    block = np.clip(np.minimum(start + 1, right) - np.maximum(start, left), 0, 1)
    if method == "block":
        return block
    from scipy.ndimage import gaussian_filter1d

    side = pixels / cells
    sigma = min(side / 3, np.sqrt(2 * _MAX_SHIFT * side))
    # "reflect" mirrors at the edge of the last pixel: what would leave the picture comes back.
    return gaussian_filter1d(block, sigma, axis=0, mode="reflect")


def entropy(alphas: np.ndarray) -> np.ndarray:
    """Entropy of attention maps (…, rows, columns) in nats: from 0 to the log of the cells.

    Examples
    --------
    >>> float(np.exp(entropy(np.full((2, 3), 1 / 6))).round(6))
    6.0
    """
    p = np.asarray(alphas, dtype=float)
    p = p / p.sum(axis=(-2, -1), keepdims=True)
    return -(p * np.log(np.maximum(p, 1e-300))).sum(axis=(-2, -1)) + 0.0


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise DlmieError(f"{name} is {' or '.join(map(repr, known))}, not {value!r}")


def _maps_of(caption: Any) -> tuple[list[str], np.ndarray]:
    words, alphas = caption.labels, caption.alphas
    if alphas is None:
        raise DlmieError(
            "the caption has no attention: only captioners that attend have, such as "
            "show-attend-tell"
        )
    if alphas.ndim != 3 or len(alphas) != len(words):
        raise DlmieError(
            f"attention is one map (rows, columns) a word: {len(words)} words, but maps of shape "
            f"{alphas.shape}"
        )
    return words, alphas


def _warn_if_flat(alphas: np.ndarray) -> None:
    if not len(alphas):
        return
    cells = alphas[0].size
    used = float(np.exp(entropy(alphas)).mean() / cells)
    if cells > 1 and used > _EVEN:
        warnings.warn(
            f"the attention is nearly even: in effect it is on {100 * used:.0f} % of the cells, so "
            "the maps say little about where the captioner looked (train longer?)",
            FlatAttention,
            stacklevel=3,
        )
    elif len(alphas) > 1 and np.abs(alphas - alphas[0]).sum(axis=(1, 2)).max() < 0.01:
        warnings.warn(
            "the attention is nearly the same for all words: it does not depend on what is said",
            FlatAttention,
            stacklevel=3,
        )


def _fit(photo: np.ndarray, longer: int) -> np.ndarray:
    factor = longer / max(photo.shape[:2])
    height, width = (max(1, round(side * factor)) for side in photo.shape[:2])
    return resize_image(photo, (height, width))


def _layout(panels: int, size: tuple[int, int]) -> tuple[int, float]:
    """Columns and the width of a panel in inches, for a figure about as wide as high."""
    aspect = min(size[0] / size[1], 3)  # height by width
    side = float(np.clip(2.3 / aspect, 1.3, 1.9))  # a word needs its place, however slim the photo
    return max(1, round((panels * (aspect + 0.35 / side)) ** 0.5)), side


def _blend(grey: np.ndarray, shares: np.ndarray, strength: float) -> np.ndarray:
    """Shares (H, W) of the scale as colours over a grey photograph (H, W, 3), clipped.

    The colours are equally strong everywhere: what is not attended to becomes dark, so the
    brightest place is the one looked at, whatever the photograph shows.
    """
    mixed = (1 - strength) * grey + strength * colour(shares, "inferno")
    return np.clip(mixed.round(), 0, 255).astype(np.uint8)


def _results(
    caption: Any,
    words: Sequence[str],
    alphas: np.ndarray,
    gates: np.ndarray | None,
    highest: float,
) -> dict[str, Any]:
    rows = []
    for number, (word, alpha) in enumerate(zip(words, alphas, strict=True)):
        row, column = np.unravel_index(int(alpha.argmax()), alpha.shape)
        rows.append(
            {
                "word": word,
                "entropy": round(float(entropy(alpha)), 4),
                "highest": round(float(alpha.max()), 6),
                "cell": [int(row), int(column)],
                **({} if gates is None else {"gate": round(float(gates[number]), 4)}),
            }
        )
    return {
        "caption": caption.text,
        "log_probability": getattr(caption, "log_probability", None),
        "grid": list(alphas.shape[1:]),
        "entropy_if_even": round(float(np.log(alphas.shape[1] * alphas.shape[2])), 4),
        "scale": [0.0, round(highest, 6)],
        "words": rows,
    }


def _frames(
    photo: np.ndarray, shown: Sequence[np.ndarray], words: Sequence[str], scale: Scale
) -> list[np.ndarray]:
    """Of the animation: the photograph, then each word's map, the sentence above it."""
    below = scale_line(scale, photo.shape[1])
    return [
        np.concatenate([sentence_line(words, said, photo.shape[1]), picture, below])
        for said, picture in enumerate([photo, *shown], start=-1)
    ]
