"""Living things: people, faces, four-legged animals, fish and birds, insects; some carry something."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from . import shapes
from .things import Builder, Part, Rng, Style, Swing, decor, hsv, placed


def person(rng: Rng, style: Style) -> list[Part]:
    """A clothed figure: legs, torso, arms, head with hair and face."""
    skin_tone = hsv(rng.uniform(0.03, 0.09), rng.uniform(0.25, 0.6), rng.uniform(0.3, 0.98))
    skin = style.material(skin_tone, contrast=rng.choice([0.0, 8.0]))
    top, bottom = style.material(span=2.0), style.material(span=2.0)
    dark = style.material(hsv(rng.random(), 0.4, rng.uniform(0.05, 0.3)))
    hair = style.material(hsv(rng.normal(0.07, 0.03), 0.5, rng.uniform(0.05, 0.7)))
    w = rng.uniform(0.16, 0.26)
    speed = rng.uniform(0.15, 0.5)
    phase = rng.uniform(0, 6)
    parts: list[Part] = []
    stance = rng.uniform(0.02, 0.3)
    skirt = rng.random() < 0.25
    for side in (-1, 1):
        hip, knee = (side * w * 0.5, 0.1), (side * (w * 0.5 + stance * 0.5), 0.5)
        foot = (side * (w * 0.5 + stance * rng.uniform(0.3, 1)), 0.93)
        swing = Swing(hip, rng.uniform(0.1, 0.4), phase + (side > 0) * np.pi, speed)
        leg = (shapes.capsule(hip, knee, w * 0.5, w * 0.36), shapes.capsule(knee, foot, w * 0.36, w * 0.24))
        parts.append(Part(leg, skin if skirt else bottom, group=0, swing=swing))
        toe = (foot[0] + 0.1 * rng.choice([-1, 1]), 0.96)
        parts.append(Part((shapes.capsule(foot, toe, 0.06, 0.05),), dark, group=1 + (side > 0), swing=swing))
    torso = np.array(
        [[-w, -0.45], [w, -0.45], [w * rng.uniform(0.7, 1), 0.15], [-w * rng.uniform(0.7, 1), 0.15]]
    )
    if skirt:
        flare = rng.uniform(1.2, 2.2)
        hem = rng.uniform(0.4, 0.8)
        gown = np.array([[-w * 0.8, 0.0], [w * 0.8, 0.0], [w * flare, hem], [-w * flare, hem]])
        parts.append(Part((shapes.rounded(gown, 1, 0.1),), bottom, group=8))
    parts.append(Part((shapes.rounded(torso, 2, 0.2),), top, group=3))
    if rng.random() < 0.5 * style.difficulty:
        parts += [replace(p, group=3) for p in decor(rng, style, 3)]
    sleeve = rng.random() < 0.6
    for side in (-1, 1):
        shoulder = (side * w * 0.95, -0.4)
        spread = rng.uniform(-0.3, 2.6) if rng.random() < 0.4 else rng.uniform(-0.2, 0.5)
        elbow = (shoulder[0] + side * 0.28 * np.sin(spread), shoulder[1] + 0.28 * np.cos(spread))
        bend = spread + rng.uniform(-0.3, 1.8)
        hand = (elbow[0] + side * 0.26 * np.sin(bend), elbow[1] + 0.26 * np.cos(bend))
        swing = Swing(shoulder, rng.uniform(0.1, 0.5), phase + (side < 0) * np.pi, speed)
        g = 4 + (side > 0)
        parts.append(
            Part(
                (shapes.capsule(elbow, hand, 0.055, 0.045), shapes.ellipse(*hand, 0.06)),
                skin,
                group=g,
                swing=swing,
            )
        )
        upper = shapes.capsule(shoulder, elbow, 0.085, 0.06)
        parts.append(Part((upper,), top if sleeve else skin, group=g, swing=swing))
    parts.append(Part((shapes.capsule((0, -0.5), (0, -0.6), 0.06, 0.06),), skin))
    r = rng.uniform(0.13, 0.17)
    nod = Swing((0, -0.55), 0.12, phase, speed * 0.5)
    if rng.random() < 0.4:
        parts.append(Part((shapes.ellipse(0, -0.68, r * 1.3, r * 1.6),), hair, group=7, swing=nod))
    parts.append(Part((shapes.ellipse(0, -0.74, r * 0.85, r * 1.15),), skin, group=6, swing=nod))
    if rng.random() < 0.6:
        eyes = tuple(shapes.ellipse(s * r * 0.35, -0.75, r * 0.12, points=10) for s in (-1, 1))
        mouth = shapes.ellipse(0, -0.66, r * 0.3, r * 0.08, 10)
        parts.append(Part((*eyes, mouth), dark, group=6, swing=nod))
    cap = shapes.ellipse(0, -0.74 - r * 0.45, r * 0.98, r * rng.uniform(0.7, 1.0))
    cap = cap[cap[:, 1] < -0.74 - r * rng.uniform(0, 0.3)]
    parts.append(Part((cap,), hair if rng.random() < 0.7 else style.material(), group=7, swing=nod))
    return parts


def animal(rng: Rng, style: Style) -> list[Part]:
    """A four-legged animal from the side, perhaps furry or patterned."""
    coat = style.material(span=rng.uniform(1, 4))
    if style.ground is not None and rng.random() < 0.3 * style.difficulty:
        coat = style.camouflage(coat)
    limb = coat if rng.random() < 0.6 else style.material()
    dark = style.material(np.array([20.0, 16, 14]), contrast=0)
    long, tall = rng.uniform(0.5, 0.75), rng.uniform(0.2, 0.36)
    legs = rng.uniform(0.25, 0.7)
    ground = tall + legs
    width = rng.uniform(0.05, 0.11)
    phase, speed = rng.uniform(0, 6), rng.uniform(0.2, 0.6)
    parts: list[Part] = []
    for k, x in enumerate((-long * 0.75, long * 0.55, -long * 0.55, long * 0.75)):
        hip = (x, tall * 0.4)
        foot = (x + rng.normal(0, 0.07), ground)
        swing = Swing(hip, 0.35, phase + k * np.pi * 0.8, speed)
        parts.append(Part((shapes.capsule(hip, foot, width * 1.6, width * 0.8),), limb, group=k, swing=swing))
    tail = np.array([[-long * 0.9, -tall * 0.3], [-long - 0.2, -tall * rng.uniform(-1, 2)]])
    tail = np.concatenate([tail, [[-long - rng.uniform(0.2, 0.45), -tall * rng.uniform(-3, 3)]]])
    parts.append(
        Part(
            (shapes.strip(tail, rng.uniform(0.02, 0.08) * np.array([1.4, 1, 0.6])),),
            limb,
            group=4,
            swing=Swing((-long * 0.9, -tall * 0.3), 0.5, phase, speed * 1.7),
        )
    )
    body = shapes.ellipse(0, 0, long, tall) * (1 + 0.08 * rng.normal(size=(36, 1)).cumsum(0) / 6)
    rings = [body]
    if rng.random() < 0.5:
        rings += shapes.hair(rng, body, 70, rng.uniform(0.08, 0.2), np.pi * 0.7)
    parts.append(Part(tuple(rings), coat))
    if rng.random() < 0.4:
        parts += [replace(p, group=-1) for p in decor(rng, style, -1)]
    neck = rng.uniform(0.1, 0.7)
    head = (long + neck * 0.6, -tall * 0.5 - neck)
    nod = Swing((long * 0.8, -tall * 0.4), 0.2, phase, speed * 0.6)
    parts.append(
        Part((shapes.capsule((long * 0.75, -tall * 0.2), head, tall * 0.65, tall * 0.4),), coat, swing=nod)
    )
    r = rng.uniform(0.15, 0.24)
    snout = (head[0] + r * rng.uniform(0.8, 1.8), head[1] + r * 0.4)
    for side in (-1, 1):
        ear = np.array([[-0.5, -0.4], [0.2, -0.6], [side * 0.4 - 0.2, -rng.uniform(1.1, 2)]]) * r + head
        parts.append(Part((shapes.rounded(ear, 1),), limb, group=5, swing=nod))
    parts.append(
        Part(
            (shapes.ellipse(*head, r), shapes.capsule(head, snout, r * 0.7, r * 0.4)),
            coat,
            group=5,
            swing=nod,
        )
    )
    face = (shapes.ellipse(head[0] + r * 0.25, head[1] - r * 0.2, r * 0.14), shapes.ellipse(*snout, r * 0.25))
    parts.append(Part(face, dark, group=5, swing=nod))
    return [placed(p, 0.8) for p in parts]


def flyer(rng: Rng, style: Style) -> list[Part]:
    """A fish or a bird: body, tail, fins or wings, eye."""
    coat, wing = style.material(), style.material()
    slim = rng.uniform(0.25, 0.6)
    phase, speed = rng.uniform(0, 6), rng.uniform(0.3, 1.0)
    tail = np.array(
        [[-0.5, 0], [-1.05, -slim * rng.uniform(0.5, 1.4)], [-0.85, 0], [-1.05, slim * rng.uniform(0.3, 1.2)]]
    )
    fin = np.array([[0.25, -slim * 0.4], [-0.4, -slim * 0.3], [-0.5, -slim * rng.uniform(1.2, 3)]])
    parts = [
        Part((tail,), wing, group=0, swing=Swing((-0.5, 0), 0.3, phase, speed)),
        Part((fin,), wing, group=1, swing=Swing((0, -slim * 0.3), 0.5, phase, speed)),
        Part(
            (
                shapes.strip(
                    np.array([[-0.75, 0], [-0.3, 0.02], [0.2, 0], [0.6, 0], [0.8, 0]]),
                    slim * np.array([0.15, 0.6, 0.75, 0.5, 0.12]),
                ),
            ),
            coat,
        ),
    ]
    parts[2] = replace(parts[2], rings=(shapes.rounded(parts[2].rings[0], 2),))
    if rng.random() < 0.6:
        parts += [replace(p, group=-1) for p in decor(rng, style, -1)]
    low = fin * (0.8, -0.5) + (0.1, slim * 0.1)
    parts.append(Part((low,), wing, group=2, swing=Swing((0.1, 0.1), 0.5, phase + 2, speed)))
    parts.append(
        Part(
            (shapes.ellipse(0.55, -slim * 0.12, 0.06),), style.material(np.array([15.0, 15, 15]), contrast=0)
        )
    )
    if rng.random() < 0.5:
        beak = np.array([[0.72, -slim * 0.15], [1.0, 0.02], [0.72, slim * 0.12]])
        parts.append(Part((beak,), style.material(), group=3))
    return parts


def face(rng: Rng, style: Style) -> list[Part]:
    """A head from the front, close by: hair, face, eyes, nose, mouth, perhaps glasses or a hat."""
    tone = hsv(rng.uniform(0.03, 0.09), rng.uniform(0.25, 0.6), rng.uniform(0.35, 0.98))
    skin = style.material(tone, contrast=rng.choice([0.0, 8.0]))
    hair = style.material(hsv(rng.normal(0.07, 0.04), 0.5, rng.uniform(0.05, 0.8)), contrast=20, span=2)
    dark = style.material(np.array([25.0, 20, 20]), contrast=0)
    white = style.material(np.array([235.0, 235, 230]), contrast=0)
    wide = rng.uniform(0.5, 0.68)
    parts: list[Part] = []
    mane = shapes.rugged(rng, 0.06) * (wide * rng.uniform(1.2, 1.5), rng.uniform(0.9, 1.1)) + (0, -0.12)
    parts.append(Part((mane, *shapes.hair(rng, mane, 40, 0.2, np.pi / 2)), hair, group=0))
    for side in (-1, 1):
        parts.append(Part((shapes.ellipse(side * wide, 0.02, 0.1, 0.17),), skin, group=1))
    oval = shapes.ellipse(0, 0.05, wide, 0.82)
    parts.append(Part((oval,), skin, group=1))
    for side in (-1, 1):
        x = side * wide * 0.45
        parts.append(Part((shapes.ellipse(x, -0.1, 0.13, 0.07),), white, group=1))
        parts.append(Part((shapes.ellipse(x, -0.1, 0.055),), dark, group=1))
        brow = shapes.strip(np.array([[x - 0.16, -0.24], [x, -0.29], [x + 0.16, -0.24]]), 0.025)
        parts.append(Part((brow,), hair, group=1))
    nose = np.array([[0.0, -0.05], [0.11, 0.22], [0, 0.27], [-0.11, 0.22]])
    shade = style.material(style.shade(tone, 0.82), contrast=0)
    parts.append(Part((shapes.rounded(nose),), shade, group=1))
    red = style.material(np.clip(tone * (0.95, 0.6, 0.6), 0, 255), contrast=0)
    parts.append(Part((shapes.ellipse(0, 0.48, 0.24, rng.uniform(0.04, 0.12)),), red, group=1))
    if rng.random() < 0.3:
        lens = [shapes.ellipse(s * wide * 0.45, -0.1, 0.22, 0.18) for s in (-1, 1)]
        inner = tuple((r - r.mean(0)) * 0.82 + r.mean(0) for r in lens)
        parts.append(Part((*lens, shapes.box(-0.1, -0.13, 0.1, -0.08)), dark, inner, group=2))
    fringe = oval[oval[:, 1] < -rng.uniform(0.3, 0.55)] * (1.08, 1.1)
    parts.append(Part((fringe,), hair if rng.random() < 0.75 else style.material(), group=0))
    if rng.random() < 0.7:
        coat = np.array([[-0.35, 0.8], [0.35, 0.8], [1.1, 1.15], [1.2, 1.7], [-1.2, 1.7], [-1.1, 1.15]])
        neck = shapes.box(-0.3, 0.6, 0.3, 1.05)
        parts.insert(1, Part((neck,), skin, group=1))
        parts.insert(1, Part((shapes.rounded(coat, 1),), style.material(), group=3))
    return [placed(p, 0.7, 0, -0.2) for p in parts]


def insect(rng: Rng, style: Style) -> list[Part]:
    """A body in segments with thin legs, feelers, perhaps wings."""
    shell, limb = style.material(), style.material()
    parts: list[Part] = []
    legs = []
    for side in (-1, 1):
        for k in range(int(rng.integers(2, 5))):
            x = -0.35 + 0.3 * k
            knee = (x + rng.normal(0, 0.1), side * rng.uniform(0.4, 0.6))
            foot = (knee[0] + rng.normal(0, 0.2), side * rng.uniform(0.7, 1.0))
            path = np.array([[x, 0], knee, foot])
            legs.append(shapes.strip(path, np.array([0.04, 0.03, 0.015])))
        feeler = np.array([[0.6, side * 0.1], [0.8, side * 0.3], [1.1, side * rng.uniform(0.2, 0.5)]])
        legs.append(shapes.strip(feeler, 0.02))
    parts.append(Part(tuple(legs), limb, group=0))
    if rng.random() < 0.6:
        wing = style.material()
        for side in (-1, 1):
            flap = Swing((0.1, 0), 0.4 * side, 0, rng.uniform(0.5, 1.5))
            shape = shapes.turn(shapes.ellipse(-0.5, 0, 0.6, 0.3), side * rng.uniform(0.5, 1.2))
            parts.append(Part((shape * (1, 1),), wing, group=1, swing=flap))
    abdomen = shapes.ellipse(-0.35, 0, rng.uniform(0.4, 0.6), rng.uniform(0.2, 0.35))
    parts.append(Part((abdomen,), shell, group=2))
    if rng.random() < 0.6:
        parts += [replace(p, group=2) for p in decor(rng, style, 2)]
    parts.append(
        Part((shapes.ellipse(0.2, 0, 0.25, 0.2),), shell if rng.random() < 0.5 else style.material())
    )
    parts.append(Part((shapes.ellipse(0.52, 0, 0.16, 0.15),), limb))
    return parts


def carrying(who: Builder, what: tuple[Builder, ...]) -> Builder:
    """A builder of ``who`` with one of ``what`` held or worn; the thing held is a target of its own."""

    def build(rng: Rng, style: Style) -> list[Part]:
        bearer = who(rng, style)
        size = rng.uniform(0.12, 0.3)
        side = rng.choice([-1.0, 1.0])
        thing = what[int(rng.integers(len(what)))](rng, style)
        at = (side * rng.uniform(0.1, 0.4), rng.uniform(-0.3, 0.3))
        return bearer + [placed(p, size, *at, group=30) for p in thing]

    return build
