"""Requests as the REST interface takes them; what does not fit is answered by 422."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_COORDINATE = 2.0**20
Color = Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")]
Name = Annotated[str, Field(min_length=1, max_length=100)]
Path = Annotated[str, Field(max_length=1000)]
Frame = Annotated[int, Field(ge=0, lt=2**31)]
Coordinate = Annotated[float, Field(ge=-MAX_COORDINATE, le=MAX_COORDINATE, allow_inf_nan=False)]
Point = tuple[Coordinate, Coordinate, Literal[0, 1]]


class Request(BaseModel):
    """A request's body; unknown entries are an error."""

    model_config = ConfigDict(extra="forbid")


class Mask(Request):
    """COCO uncompressed RLE: runs in column-major order, the first of them background."""

    size: tuple[Frame, Frame]
    counts: Annotated[list[Frame], Field(max_length=8_000_000)]


class OpenSession(Request):
    """Which medium to open."""

    path: Path
    model: Name | None = None


class ChangeSession(Request):
    """What to change of a session."""

    done: bool | None = None
    model: Name | None = None
    policy: Name | None = None


class NewObject(Request):
    """A new object."""

    name: Name | None = None
    color: Color | None = None


class ChangeObject(NewObject):
    """What to change of an object."""

    visible: bool | None = None
    opacity: Annotated[float, Field(ge=0, le=1)] | None = None
    outline: bool | None = None


class PutPrompt(Request):
    """All that is asked of one object on one frame; nothing clears it."""

    points: Annotated[list[Point], Field(max_length=256)] = []
    box: tuple[Coordinate, Coordinate, Coordinate, Coordinate] | None = None
    mask: Mask | None = None
    choice: Annotated[int, Field(ge=0, le=2)] | None = None

    @field_validator("box")
    @classmethod
    def _ordered(cls, box: Any) -> Any:
        if box is not None and (box[2] <= box[0] or box[3] <= box[1]):
            raise ValueError("the box is empty: x1 and y1 must be greater than x0 and y0")
        return box

    @model_validator(mode="after")
    def _mask_or_box(self) -> PutPrompt:
        if self.mask is not None and self.box is not None:
            raise ValueError("a mask and a box exclude one another: leave one out")
        return self


class Preview(Request):
    """Points under the mouse."""

    frame: Frame
    points: Annotated[list[Point], Field(min_length=1, max_length=256)]


class OneFrame(Request):
    """A frame."""

    frame: Frame


class Propagate(Request):
    """Where to propagate from, and to where."""

    start: Frame
    direction: Literal["forward", "backward", "both"] = "forward"
    frames: Frame | None = None


class LivePrompt(Request):
    """Prompts an object on the camera's newest picture."""

    type: Literal["prompt"]
    object: Annotated[int, Field(ge=1, le=255)]
    points: Annotated[list[Point], Field(max_length=256)] = []
    box: tuple[Coordinate, Coordinate, Coordinate, Coordinate] | None = None


class LiveRemove(Request):
    """Forgets an object of the camera."""

    type: Literal["remove"]
    object: Annotated[int, Field(ge=1, le=255)]


class NewExport(Request):
    """A format and its options."""

    format: Name
    options: dict[str, str | float | bool] = {}
