"""Scenes with something left out, so that one can learn what of it training needs.

A scene is drawn as always and made plainer afterwards: with and without, the same seed gives the same objects
in the same places, and all that differs is what was named. Only "occlusion" has to move objects (`apart`),
and clips without occlusion or glyphs move otherwise too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from . import shapes
from .actors import Actor
from .textures import WRITING, Material
from .things import Part

NAMES = ("texture", "shading", "occlusion", "parts", "camouflage", "blur", "glyphs")
"""What can be left out.

texture: every material, the ground's too, is of its palette's middle colour; bands and spots, which are
parts, stay. shading: no relief, no highlights, no shadows, cast by objects or by things out of sight; darker
colours that a builder gave some parts stay. occlusion: no object hides any of another, see `apart`. parts:
each object is of the material of its largest part as a whole, and no part is a target. camouflage: no object
is of the ground's own material. blur: nothing is out of focus or smeared by motion, no picture is soft.
glyphs: no letters or numerals on objects or in textures; those that were an object by themselves are boxes.
"""


def checked(without: Iterable[str]) -> tuple[str, ...]:
    """The names in the order of `NAMES`, each once. Raises ValueError for one that is not known."""
    names = tuple(without)
    for name in names:
        if name not in NAMES:
            raise ValueError(f"nothing called {name!r} can be left out; known are {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in names)


def plainer(actor: Actor, without: tuple[str, ...]) -> Actor:
    """`actor` less what its own parts and look say; the ground's pieces are of one part and keep it."""
    parts = actor.parts
    if "glyphs" in without:
        parts = [kept for part in parts if (kept := _unlettered(part)) is not None]
    if "parts" in without and not actor.stuff:
        largest = max(parts, key=_area).material
        parts = [replace(part, material=largest, group=-1) for part in parts]
    if "texture" in without:
        parts = [replace(part, material=replace(part.material, index=-1)) for part in parts]
    if parts is not actor.parts:
        actor = replace(actor, parts=parts)
    if "shading" in without:
        actor = replace(actor, relief=0.0, gloss=0.0, shadow=0.0)
    if "blur" in without:
        actor = replace(actor, defocus=0.0)
    return actor


def unlettered(material: Material) -> Material:
    """`material`, or with things strewn about (the texture before) where it shows lines of writing."""
    return replace(material, index=material.index - 1) if material.index in WRITING else material


def _unlettered(part: Part) -> Part | None:
    """`part`, nothing where it is writing on another, the box it fills where it is letters by themselves."""
    part = replace(part, material=unlettered(part.material))
    if part.stamp is None:
        return part
    return None if part.clip else replace(part, stamp=None, rings=(shapes.box(*part.stamp_box),))


def _area(part: Part) -> float:
    """Square units that the outlines of a part enclose, holes and overlaps counted too."""
    rings = part.rings if part.stamp is None else (shapes.box(*part.stamp_box),)
    doubled = 0.0
    for ring in rings:
        (x, y), (u, v) = ring.T, np.roll(ring, -1, 0).T
        doubled += abs(float((x * v - u * y).sum()))
    return doubled / 2
