"""Settings of every test: one thread per process, reproducible hypothesis."""

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings
from workers import Workers

torch.set_num_threads(1)
sys.modules["umap"] = None  # compiles for a minute where it is installed; the test of it asks for it
settings.register_profile("default", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("default")


@pytest.fixture(scope="session")
def pools():
    """Pools of gloo processes, by how many they are; made when first asked for."""
    made = {}

    def pool(count):
        if count not in made:
            made[count] = Workers(count)
        return made[count]

    yield pool
    for workers in made.values():
        workers.stop()


LONGEST = ("test_readme.py", "test_images_interrupted.py", "test_cli_signals.py")
"""Files that take minutes: begun last, one of them would keep a process busy while the others have nothing left."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)
