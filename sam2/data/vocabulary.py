"""Which builders a scene draws its objects from."""

from __future__ import annotations

from .things import Builder, animal, assembly, flyer, person, plain, vehicle, vessel

VOCABULARY: tuple[Builder, ...] = (plain, assembly, person, animal, flyer, vehicle, vessel)
