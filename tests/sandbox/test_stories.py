"""Stories lie within the last days before the anchor, and their twins are legitimate."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sandbox import stories
from sandbox.company import Company
from tests.sandbox.setups import ANCHOR

COMPANY = Company(7)
NAMES = [story.name for story in stories.STORIES]


@pytest.mark.parametrize("story", stories.STORIES, ids=NAMES)
def test_a_story_lies_within_two_days_before_the_anchor(story: stories.Story) -> None:
    for scenes, suspicious in ((story.scenes, True), (story.twin, False)):
        found = [*scenes(COMPANY, ANCHOR)]
        assert all(ANCHOR - timedelta(days=2) < scene.happening.time < ANCHOR for scene in found)
        assert any(scene.happening.suspicious for scene in found) == suspicious


@pytest.mark.parametrize("story", stories.STORIES, ids=NAMES)
def test_a_story_moves_with_the_anchor(story: stories.Story) -> None:
    later = [*story.scenes(COMPANY, ANCHOR + timedelta(days=1))]
    earlier = [*story.scenes(COMPANY, ANCHOR)]
    assert [scene.happening.time - timedelta(days=1) for scene in later] == [
        scene.happening.time for scene in earlier
    ]


def test_twins_and_victims_are_different_people() -> None:
    for story in stories.STORIES:
        victims = {scene.happening.actor for scene in story.scenes(COMPANY, ANCHOR)}
        assert not victims & {scene.happening.actor for scene in story.twin(COMPANY, ANCHOR)}


@pytest.mark.parametrize("hour", range(24))
@pytest.mark.parametrize("seed", [1, 7])
def test_the_traveller_signs_in_abroad_while_home_is_asleep(hour: int, seed: int) -> None:
    company, anchor = Company(seed), ANCHOR.replace(hour=hour)
    journey = next(each.twin for each in stories.STORIES if each.name == NAMES[-1])
    (traveller,) = {scene.happening.actor for scene in journey(company, anchor)}
    for scene in journey(company, anchor):
        place, time = scene.happening.place, scene.happening.time
        assert place
        assert place.code != traveller.places[0].code
        local = (time + timedelta(hours=traveller.utc_offset)).hour
        assert local >= 22 or local < 6


def test_the_bulk_export_stays_below_a_mass_download() -> None:
    found = [*stories.bulk_export(COMPANY, ANCHOR)]
    half_an_hour = [
        each
        for each in found
        if each.happening.time < found[0].happening.time + timedelta(minutes=30)
    ]
    assert 20 < len(half_an_hour) < 50
