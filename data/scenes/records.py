"""Scenes as records of a data set, and the data set written as an ordinary prepared file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.records import Record
from dlmie.data.captions.writing import write_captions
from dlmie.data.scenes.pictures import render_scene, thing_box
from dlmie.data.scenes.plans import Scene, plan_scene
from dlmie.data.scenes.sentences import group_attributes, write_sentences
from dlmie.errors import DataError

#: Counts up when the same seed gives other scenes, so that no file mixes two kinds.
VERSION = 1


def scene_objects(scene: Scene, nouns: list[list[str]], size: int = 64) -> list[dict[str, Any]]:
    """List what a scene shows: ``{"name", "words", "attributes", "box"}`` for each thing.

    ``words`` are the nouns that name it in the captions, ``attributes`` the other words that may
    stand beside them; things of one group share both.
    """
    attributes = [group_attributes(group) for group in scene.groups]
    return [
        {
            "name": scene.groups[thing.group].shape,
            "words": nouns[thing.group],
            "attributes": attributes[thing.group],
            "box": thing_box(scene, thing, size),
        }
        for thing in scene.things
    ]


def scene_records(counts: dict[str, int], *, seed: int = 0, size: int = 64) -> Iterator[Record]:
    """Describe the scenes of each split as records; pictures are drawn when they are asked for.

    Parameters
    ----------
    counts
        Number of scenes of each split: ``{"train": 2000, "dev": 200, "test": 200}``.
    seed
        Another seed gives other scenes.
    size
        Pixels.
    """
    for split, count in counts.items():
        for index in range(count):
            scene = plan_scene(seed, split, index)
            captions, nouns = write_sentences(scene)
            yield Record(
                name=f"{split}-{index:05d}",
                image=partial(render_scene, scene, size),
                captions=captions,
                split=split,
                objects=scene_objects(scene, nouns, size),
            )


def scenes_of(names: Iterable[str], source: Mapping[str, Any]) -> list[Scene] | None:
    """What the images of a prepared file show, by what the file says of its source.

    Parameters
    ----------
    names
        Of images, as `scene_records` gives them: ``"test-00007"``.
    source
        The ``source`` of the file's header.

    Returns
    -------
    list of Scene, or None
        None where the images are not scenes, or another version drew them.

    Examples
    --------
    >>> scenes_of(["test-00007"], {"format": "scenes", "version": 1, "seed": 0})[0].kind
    'pair'
    """
    if source.get("format") != "scenes" or source.get("version") != VERSION:
        return None
    places = (name.rsplit("-", 1) for name in names)
    return [plan_scene(source["seed"], split, int(index)) for split, index in places]


def prepare_scenes(
    to: str | Path,
    *,
    seed: int = 0,
    train: int = 2000,
    dev: int = 200,
    test: int = 200,
    size: int = 64,
    overwrite: bool = False,
    progress: bool = True,
) -> Captions:
    """Write the embedded data set as an ordinary captions file.

    Parameters
    ----------
    to
        The file to write.
    seed
        Another seed gives other scenes.
    train, dev, test
        Number of scenes of each split, with five captions each. Scene number ``i`` of a split is
        the same whatever these numbers are.
    size
        Height and width of the pictures in pixels, at least 32.
    overwrite
        Replace a file that holds something else.
    progress
        Show a bar.

    Returns
    -------
    Captions
        The opened data set.

    Raises
    ------
    DataError
        A negative seed or number, no training scenes, too few pixels; what `write_captions`
        raises.

    Examples
    --------
    >>> data = prepare_scenes("scenes.h5")  # doctest: +SKIP
    >>> data["train"].references[0]  # doctest: +SKIP
    """
    if seed < 0:
        raise DataError(f"seed {seed} is negative; give 0 or more")
    if train < 1 or min(dev, test) < 0:
        raise DataError(f"cannot make {train} train, {dev} dev and {test} test scenes")
    if size < 32:
        raise DataError(f"size {size} is too small to draw scenes; give at least 32 pixels")
    counts = {"train": train, "dev": dev, "test": test}
    source = {"format": "scenes", "version": VERSION, "seed": seed}
    records = scene_records(counts, seed=seed, size=size)
    write_captions(
        records, to, size=size, min_count=1, overwrite=overwrite, source=source, progress=progress
    )
    return Captions(to)
