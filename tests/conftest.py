"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# Examples are small; how long one takes says how busy the machine is, not whether it passes.
settings.register_profile("sam2", deadline=None)
settings.load_profile("sam2")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For models too small to gain from more threads: quicker, and the same course on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
