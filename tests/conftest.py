"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# Examples are small; how long one takes says how busy the machine is, not whether it passes.
# The same examples each time, so that a change is judged by what it did; other ones are sought by
# `pytest --hypothesis-profile search`.
settings.register_profile("sam2", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=500)
settings.load_profile("sam2")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For models too small to gain from more threads: quicker, and the same course on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
