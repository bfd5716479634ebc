"""A generated configuration means the values it was generated from, however odd they are."""

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pipelines import settings
from pipelines.cli import config_file
from pipelines.cli.main import main

keys = st.sampled_from(["base_url", "api_token", "okta", "eu_2"])
scalars = st.text(max_size=20) | st.booleans() | st.integers(-(2**63), 2**63 - 1)
lists = st.lists(scalars, max_size=3)
values = scalars | lists | st.dictionaries(keys, scalars | lists, max_size=2)


@given(st.dictionaries(keys, st.dictionaries(keys, values)), st.text())
def test_every_value_survives_a_round_trip(integrations, root):
    found = tomllib.loads(config_file.document(integrations, root))
    expected = {"integrations": integrations} if integrations else {}
    assert found == {"lake": {"root": root}, **expected}


@pytest.mark.parametrize(
    "hostile",
    [
        '"\n[lake]\nroot = "/"', '\\"', "\\", "'" * 3, '"' * 3, "a\tb\r\nc", "\0", "\x7f",
        "\x80\x9f", "\u2028", "\ufeff", '{ env = "HOME" }', "#", "\U0001f511",
    ],
)  # fmt: skip
def test_no_text_leaves_its_string(hostile):
    text = config_file.document({"okta": {"token": hostile}}, hostile, hostile, hostile)
    assert tomllib.loads(text) == {
        "lake": {"root": hostile},
        "integrity": {"folder": hostile},
        "webhooks": {"public_url": hostile},
        "integrations": {"okta": {"token": hostile}},
    }


def test_the_settings_are_loaded_from_it(tmp_path):
    okta = {"base_url": "https://acme.okta.com", "api_token": "x" * 20}
    root, url, folder = str(tmp_path / "lake"), "https://hooks.example", str(tmp_path / "keys")
    file = tmp_path / "auditlake.toml"
    file.write_text(config_file.document({"okta": okta}, root, url, folder))
    chosen = settings.load(file)
    assert (chosen.lake.root, str(chosen.integrity.folder)) == (root, folder)
    assert str(chosen.webhooks.public_url).rstrip("/") == url
    assert list(chosen.integrations) == ["okta"]


def test_the_example_is_printed_as_it_is_in_the_repository():
    printed = CliRunner().invoke(main, ["example"])
    assert printed.output == (Path(__file__).parents[2] / "auditlake.example.toml").read_text()
