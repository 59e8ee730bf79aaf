"""Which builders a scene draws its objects from, common ones named more than once."""

from __future__ import annotations

from .figures import animal, carrying, face, flyer, insect, person
from .flora import bush, flower, leaf, mushroom, plant, stone, tree, tuft
from .goods import (
    bag,
    ball,
    book,
    bowl,
    building,
    cable,
    crate,
    furniture,
    lattice,
    screen,
    shelf,
    shoe,
    sign,
    tool,
    vehicle,
    vessel,
)
from .things import Builder, assembly, plain

VOCABULARY: tuple[Builder, ...] = (
    *(plain, plain, plain, assembly, assembly, stone, cable, lattice),
    *(person, person, person, animal, animal, animal, flyer, flyer, insect, face),
    *(vehicle, vehicle, vessel, vessel, crate, book, screen, furniture, shelf, tool, bag, bag, ball, ball),
    *(building, sign, bowl, shoe, tree, bush, plant, flower, leaf, mushroom, tuft),
    *(carrying(person, (bag, ball, tool, book, vessel)), carrying(person, (animal, sign, screen, flower))),
    *(carrying(animal, (person, bag, flower)), carrying(vehicle, (person, bag, crate))),
)
