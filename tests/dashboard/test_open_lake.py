"""Which lake is opened, and for whom."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit import config

from dashboard import auth, open_lake


@pytest.fixture
def listening() -> Iterator[Callable[[str | None], None]]:
    """Set the address that the server listens on."""
    before = config.get_option("server.address")
    yield lambda address: config.set_option("server.address", address)
    config.set_option("server.address", before)


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(tmp_path / "auditlake.toml"))
    monkeypatch.delenv("AUDITLAKE_LAKE__ROOT", raising=False)
    return tmp_path / "auditlake.toml"


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "127.0.0.1.evil.example", None])
def test_a_server_without_sign_in_does_not_start_beyond_loopback(
    address: str | None, listening: Callable[[str | None], None]
) -> None:
    listening(address)
    with pytest.raises(SystemExit, match="without sign-in"):
        open_lake.check_listening()
    with pytest.raises(auth.Exposed):
        open_lake.configured()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_on_loopback_everybody_is_the_local_account(
    address: str, listening: Callable[[str | None], None]
) -> None:
    listening(address)
    open_lake.check_listening()
    assert open_lake.visitor() == getpass.getuser()


def test_the_lake_is_that_of_the_configuration_file(configuration: Path) -> None:
    configuration.write_text('[lake]\nroot = "elsewhere/"\n')
    assert open_lake.unguarded().root.endswith("elsewhere")
    assert open_lake.unguarded() is open_lake.unguarded()


def test_a_run_of_the_page_has_one_configuration_and_the_next_run_a_new_one(
    configuration: Path,
) -> None:
    configuration.write_text('[lake]\nroot = "elsewhere"\n')
    with open_lake.one_reading():
        before = open_lake.unguarded()
        configuration.write_text('[lake]\nroot = "moved"\n')
        assert open_lake.unguarded() is before
    assert open_lake.unguarded().root.endswith("moved")


def test_secrets_are_read_again_by_the_next_run(configuration: Path) -> None:
    secret = configuration.with_name("secret")
    secret.write_text("first")
    configuration.write_text(
        f'[lake]\nroot = "s3://bucket/lake"\n[lake.storage_options]\nkey = {{file = "{secret}"}}\n'
    )
    found = []
    for text in ("first", "second"):
        secret.write_text(text)
        with open_lake.one_reading():
            found.append(open_lake.unguarded())
    assert found[0] is not found[1]


def test_without_a_file_it_is_the_default_lake(configuration: Path) -> None:
    assert not configuration.exists()
    assert open_lake.unguarded().root.endswith("data")


def test_an_invalid_file_is_reported_without_its_secrets(configuration: Path) -> None:
    configuration.write_text(
        '[lake]\nroot = "x"\nrot = 1\nstorage_options = {key = "not-to-be-shown"}\n'
    )
    with pytest.raises(open_lake.MISCONFIGURED, match=r"lake\.rot") as error:
        open_lake.unguarded()
    assert "not-to-be-shown" not in str(error.value)
