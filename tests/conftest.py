"""What every test may lean on: one thread, a seed, and the folder of real data where there is one."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real texts and models (``LAMOID_DATA``, or ``../shared/data``); the test is skipped without it."""
    folder = Path(os.environ.get("LAMOID_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; LAMOID_DATA names its folder")
    return folder


@pytest.fixture(autouse=True)
def one_thread_and_a_seed() -> None:
    """Makes what a test draws the same in every order and on every worker."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
