"""Fixtures for the integrity tests."""

import shutil

import pytest

from tests.integrity.worlds import Signed


@pytest.fixture(autouse=True)
def _nobody_is_landing(monkeypatch):
    """Do not wait for checkpoints: no other process signs rows in these tests."""
    monkeypatch.setattr("pipelines.integrity.verifier.verify._PUBLISHING", 0)
    monkeypatch.setattr("pipelines.integrity.verifier.events._WAITING", 0)


@pytest.fixture(scope="session")
def _filled(tmp_path_factory):
    return Signed(tmp_path_factory.mktemp("filled")).fill()


@pytest.fixture
def signed(_filled, tmp_path):
    """A lake of 700 rows in seven commits over three days, which a test may change."""
    shutil.copytree(_filled.folder, tmp_path / "world")
    move_memory(_filled, Signed(tmp_path / "world"))
    return Signed(tmp_path / "world")


def move_memory(old, new):
    """Move the local state: its folder is named after the location of the lake."""
    shutil.move(
        new.folder / "state" / "lakes" / old.place.memory.name,
        new.folder / "state" / "lakes" / new.place.memory.name,
    )
