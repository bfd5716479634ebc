"""The README and the example configuration match the integrations."""

import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines import registry, settings
from pipelines.cli.main import main
from pipelines.errors import ConfigurationError
from pipelines.lake import maintenance
from pipelines.sdk.contract import Integration
from pipelines.sdk.endings import Ending

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text()
EXAMPLE = PROJECT / "auditlake.example.toml"
KINDS = sorted(registry.kinds())
MANY = 8
UP = ("up", "processes")


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
def test_the_example_has_a_section_for_the_integration_with_known_keys(kind):
    keys = tomllib.loads(EXAMPLE.read_text())["integrations"][kind]
    known = registry.kind(kind).settings.model_fields
    assert set(keys) <= set(known)


def test_the_example_is_a_valid_configuration():
    loaded = settings.load(EXAMPLE)
    assert sorted(loaded.integrations) == KINDS
    with pytest.raises(ConfigurationError, match="OKTA_API_TOKEN is not set"):
        registry.sources(loaded)


def test_every_command_of_the_readme_exists():
    said = set(re.findall(r"`auditlake ([a-z-]+)", README))
    said |= {"verify", "prove", "evidence", "retain"}
    shown = CliRunner().invoke(main, ["--help"]).output
    assert {command for command in said if f"  {command} " not in shown} == set()


def test_links_lead_to_existing_files():
    for page in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_counts_of_the_readme_are_true():
    rules = [path for path in (PROJECT / "rules").rglob("*.yml") if ".tests." not in path.name]
    (said,) = re.findall(r"some (\d+) of them included", README)
    assert int(said) == len(rules) // 10 * 10
    assert f"At least the last {maintenance._VERSIONS:,} versions" in README
    ending = Ending(what="the key", at=datetime(2026, 1, 1, tzinfo=UTC), advice="renew it")
    assert f"warn {ending.ahead.days} days before a credential expires" in README


def test_the_addresses_that_up_prints_are_the_defaults():
    chosen = settings.Settings()
    servers = {"dashboard": chosen.dashboard, "dagster": chosen.dagster}
    servers |= {"webhooks": chosen.webhooks, "sandbox": chosen.sandbox}
    shown = dict(re.findall(r"^  (\w+) +(http://\S+)$", README, flags=re.M))
    assert shown == {name: each.address for name, each in servers.items()}


def test_what_up_prints_is_in_its_code():
    source = "".join((PROJECT / "pipelines" / "cli" / f"{name}.py").read_text() for name in UP)
    for words in (
        "using the built-in sandbox, all events are simulated",
        "the first events are available:",
        "webhooks registered: new events are now pushed",
        "polling started; press Ctrl-C to stop everything",
    ):
        assert (words in README, words in source) == (True, True)


def test_every_table_of_the_readme_is_one_of_the_lake():
    (listed,) = re.findall(r"\| Table \| Contents \|\n(.*?)\n\n", README, flags=re.S)
    names = set(re.findall(r"^\| `([^`]+)` \|", listed, flags=re.M))
    architecture = (PROJECT / "docs" / "architecture.md").read_text()
    for name in names - {"raw/NAME/STREAM"}:
        assert f"`{name}`" in architecture
