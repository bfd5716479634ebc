"""The README and the example configuration match the integrations."""

import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines import registry, settings
from pipelines.cli.main import main
from pipelines.errors import ConfigurationError
from pipelines.sdk.contract import Integration

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text()
EXAMPLE = PROJECT / "auditlake.example.toml"
KINDS = sorted(registry.kinds())
MANY = 8


def row(found: Integration) -> str:
    streams = [stream.name for stream in found.streams(None)]
    shown = ", ".join(f"`{name}`" for name in streams[:MANY])
    more = f" and {len(streams) - MANY} more" if len(streams) > MANY else ""
    docs = found.docs
    cells = (
        f"{found.title} (`{found.kind}`)",
        shown + more,
        docs.credentials,
        docs.permissions,
        docs.history,
        docs.delay,
        docs.push,
    )
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_matches_the_integration(kind):
    assert row(registry.kind(kind)) in README.splitlines()


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_has_a_section_for_it_with_known_keys(kind):
    keys = tomllib.loads(EXAMPLE.read_text())["integrations"][kind]
    known = registry.kind(kind).settings.model_fields
    assert set(keys) <= set(known)


def test_the_example_is_a_configuration():
    loaded = settings.load(EXAMPLE)
    assert sorted(loaded.integrations) == KINDS
    with pytest.raises(ConfigurationError, match="OKTA_API_TOKEN is not set"):
        registry.sources(loaded)


def test_every_command_of_the_readme_exists():
    said = set(re.findall(r"`auditlake ([a-z-]+)", README))
    said |= {"verify", "prove", "evidence", "retain"}
    shown = CliRunner().invoke(main, ["--help"]).output
    assert {command for command in said if f"  {command} " not in shown} == set()


def test_links_lead_somewhere():
    for page in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"
