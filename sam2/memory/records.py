"""Tensors and a few plain values as bytes, exactly, and back."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

_DTYPES = (
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.bool,
    torch.uint8,
    torch.int32,
    torch.int64,
    torch.float64,
)
_LENGTH = struct.Struct("<I")


class RecordError(ValueError):
    """Bytes that are no record, or a damaged one."""


def _is_channels_last(tensor: Tensor) -> bool:
    return (
        tensor.dim() == 4
        and not tensor.is_contiguous()
        and tensor.is_contiguous(memory_format=torch.channels_last)
    )


def pack(values: dict[str, Any], tensors: Sequence[Tensor | None]) -> bytes:
    """A record: plain JSON values and tensors from any device, bit for bit; None stays None.

    Channels-last tensors come back so: kernels may round differently by layout.
    """
    layout = [
        None if t is None else [_DTYPES.index(t.dtype), list(t.shape), _is_channels_last(t)] for t in tensors
    ]
    head = json.dumps([values, layout], separators=(",", ":")).encode()
    parts = [_LENGTH.pack(len(head)), head]
    parts += [
        t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        for t in tensors
        if t is not None
    ]
    return b"".join(parts)


def unpack(record: bytes) -> tuple[dict[str, Any], list[Tensor | None]]:
    """What `pack` was given; tensors on the CPU.

    Raises:
        RecordError: not a record.
    """
    try:
        (length,) = _LENGTH.unpack_from(record)
        start = _LENGTH.size + length
        values, layout = json.loads(record[_LENGTH.size : start])
        tensors: list[Tensor | None] = []
        for part in layout:
            if part is None:
                tensors.append(None)
                continue
            dtype, shape = _DTYPES[part[0]], part[1]
            size = torch.Size(shape).numel() * dtype.itemsize
            if start + size > len(record):
                raise RecordError("the record is cut short")
            content = bytearray(record[start : start + size])
            flat = torch.frombuffer(content, dtype=torch.uint8) if size else torch.empty(0, dtype=torch.uint8)
            tensor = flat.view(dtype).reshape(shape)
            tensors.append(tensor.to(memory_format=torch.channels_last) if part[2] else tensor)
            start += size
    except (struct.error, UnicodeDecodeError, json.JSONDecodeError, TypeError, IndexError) as error:
        raise RecordError(f"not a record: {error}") from None
    return values, tensors


def pack_fields(value: Any) -> bytes:
    """A flat dataclass of tensors, None and plain values as a record."""
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    kept = [name for name, v in fields.items() if v is None or isinstance(v, Tensor)]
    plain = {name: v for name, v in fields.items() if name not in kept}
    return pack({"fields": plain, "tensors": kept}, [fields[name] for name in kept])


def unpack_fields(kind: type[T], record: bytes, device: torch.device | str) -> T:
    """The dataclass of a record made by `pack_fields`, its tensors on `device`."""
    values, tensors = unpack(record)
    try:
        parts = zip(values["tensors"], tensors, strict=True)
        placed = {name: None if t is None else t.to(device) for name, t in parts}
        return kind(**values["fields"], **placed)
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"not a record of {kind.__name__}: {error}") from None
