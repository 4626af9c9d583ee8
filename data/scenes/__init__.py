"""The embedded data set: rendered scenes of colored shapes, described and located exactly.

It is made on the fly and needs no download: small pictures of circles, stars, hearts … in eight
colors, two sizes and three textures, alone at one of nine places, in rows, columns and scattered,
beside, above and inside each other, on varied backgrounds with a little noise; five captions each
and the box of every thing. Each scene depends on the seed, its split and its number only, and the
splits share no composition of things: a captioner must look, and must combine what it knows.

The captions speak of left and right, so mirrored pictures would make them false: train without
flips.
"""

from dlmie.data.scenes.claims import Claim, Truth, check_caption, truth
from dlmie.data.scenes.pictures import render_scene, thing_box
from dlmie.data.scenes.plans import Group, Scene, Thing, plan_scene
from dlmie.data.scenes.records import (
    VERSION,
    prepare_scenes,
    scene_objects,
    scene_records,
    scenes_of,
)
from dlmie.data.scenes.sentences import write_sentences

__all__ = [
    "VERSION",
    "Claim",
    "Group",
    "Scene",
    "Thing",
    "Truth",
    "check_caption",
    "plan_scene",
    "prepare_scenes",
    "render_scene",
    "scene_objects",
    "scene_records",
    "scenes_of",
    "thing_box",
    "truth",
    "write_sentences",
]
