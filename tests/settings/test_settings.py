"""An invalid configuration is reported with one line per error, without secrets."""

from functools import partial

import httpx
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from pipelines import registry, settings
from pipelines.cli.main import main
from pipelines.errors import ConfigurationError
from pipelines.integrity import cosignatures, note
from pipelines.lake import tables

OKTA = '[integrations.okta]\nbase_url = "https://acme.okta.com"\n'


def read(tmp_path, text):
    path = tmp_path / "auditlake.toml"
    path.write_text(text)
    return registry.sources(settings.load(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[lake]\nrot = 1", "lake.rot: unknown key"),
        (OKTA, "set api_token, or client_id and private_key"),
        (OKTA + 'api_tokn = "x"', "api_tokn: unknown key"),
        (OKTA + 'api_token = { env = "NOT_SET_AT_ALL" }', "NOT_SET_AT_ALL is not set"),
        (OKTA + 'api_token = { file = "/no/such" }', "cannot read /no/such"),
        (OKTA + 'api_token = { vault = "s3cret" }', 'as text, as {env = "VARIABLE"}'),
        (OKTA + 'api_token = "x"\nhistory = "30 fortnights"', 'such as "30s"'),
        (OKTA + 'api_token = "x"\nproxy = "s3cret"', "okta: proxy: give the proxy's address"),
        ('[network]\nproxy = "socks5://s3cret@a.example"', "network.proxy: give the proxy's"),
        (OKTA + 'api_token = "x"\nstreams = ["syslog"]', "'syslog' is not one of system_log"),
        ('[integrations.okta]\nbase_url = "http://acme.okta.com"\napi_token = "s3cret"', "https"),
        ('[integrations.octa]\nbase_url = "https://x"', "unknown kind 'octa'"),
        ("[integrations", "not valid TOML"),
        ('["integrations"."a/b"]\nkind = "okta"', "letters, digits"),
    ],
)
def test_an_error_names_its_key_and_the_fix(tmp_path, text, said):
    with pytest.raises(ConfigurationError) as error:
        read(tmp_path, text)
    assert said in str(error.value)
    assert "s3cret" not in str(error.value)


def test_a_missing_file_points_to_the_example(tmp_path):
    with pytest.raises(ConfigurationError, match=r"auditlake example"):
        settings.load(tmp_path / "none.toml")


def test_secrets_come_from_files_and_the_environment(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.setenv("OKTA_TOKEN", "from-env")
    (one, two) = read(
        tmp_path,
        f'[integrations.one]\nkind = "okta"\nbase_url = "https://a.okta.com"\n'
        f'api_token = {{ file = "{tmp_path}/token" }}\n'
        f'[integrations.two]\nkind = "okta"\nbase_url = "https://b.okta.com"\n'
        f'api_token = {{ env = "OKTA_TOKEN" }}\n',
    )
    assert one.settings.api_token.get_secret_value() == "from-file"
    assert two.settings.api_token.get_secret_value() == "from-env"
    assert "from-" not in repr(one) + repr(two) + str(one.settings)


def test_the_environment_wins_over_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDITLAKE_LAKE__ROOT", "elsewhere")
    path = tmp_path / "auditlake.toml"
    path.write_text('[lake]\nroot = "here"')
    assert settings.load(path).lake.root == "elsewhere"


def test_all_errors_are_reported_at_once(tmp_path):
    with pytest.raises(ConfigurationError) as error:
        read(tmp_path, '[integrations.okta]\nbase_url = "ftp://x"\nfoo = 1\n[integrations.octa]\n')
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.parametrize("name", ["my lake", "lüke", "100%", "a#b", "date=1"])
def test_a_lake_root_with_unsafe_characters_is_refused(tmp_path, name):
    chosen = settings.Settings(lake={"root": str(tmp_path / name)})
    with pytest.raises(ConfigurationError, match=r"lake\.root"):
        tables.configured(chosen)


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True), ("127.0.0.2", True), ("127.255.255.254", True), ("::1", True),
        ("[::1]", True), ("0:0:0:0:0:0:0:1", True), ("localhost", True), ("LocalHost", True),
        ("", False), ("0.0.0.0", False), ("::", False), ("[::]", False), ("128.0.0.1", False),
        ("10.0.0.5", False), ("[fe80::1]", False), ("localhost.acme.com", False),
        ("127.0.0.1.acme.com", False), ("127.1", False),
    ],
)  # fmt: skip
def test_only_addresses_of_this_machine_are_loopback(host, is_local):
    assert settings.is_loopback(host) is is_local


@pytest.mark.parametrize("host", ["127.0.0.2", "[::1]", "LOCALHOST"])
def test_plain_http_is_accepted_on_any_loopback_address(tmp_path, host):
    address = f'base_url = "http://{host}:8700/okta"'
    (source,) = read(tmp_path, f'[integrations.okta]\n{address}\napi_token = "x"')
    assert settings.is_loopback(httpx.URL(source.settings.base_url).host)


@pytest.mark.parametrize("server", ["dagster", "dashboard", "metrics", "sandbox", "webhooks"])
def test_a_server_may_be_given_a_host_alone(server):
    chosen = settings.Settings(**{server: {"host": "::1"}})
    usual = getattr(settings.Settings(), server)
    assert usual.address == f"http://127.0.0.1:{usual.port}"
    assert getattr(chosen, server).address == f"http://[::1]:{usual.port}"


def test_commands_that_send_no_request_need_no_secret(tmp_path):
    path = tmp_path / "auditlake.toml"
    path.write_text(
        f'[lake]\nroot = "{tmp_path}/lake"\n'
        '[integrations.okta]\nbase_url = "https://a.okta.com"\napi_token = {env = "NOT_SET"}\n'
        'webhook_secret = {env = "NOT_SET"}\n'
        '[integrations.google_workspace]\ncredentials = "none.json"\nsubject = "a@example.com"\n'
        '[integrations.entra_id]\ntenant_id = "t"\nclient_id = "c"\n'
        'certificate = {file = "none.pem"}\n'
    )
    chosen = settings.load(path)
    found = registry.sources(chosen, secrets=False)
    assert [one.name for one in found] == ["okta", "google_workspace", "entra_id"]
    assert all(one.streams() for one in found)
    with pytest.raises(ConfigurationError) as error:
        registry.sources(chosen)
    assert len(str(error.value).splitlines()) == 4
    for command in ("status", "coverage"):
        done = CliRunner().invoke(main, ["--config", str(path), command], catch_exceptions=False)
        assert done.exit_code == 0, done.output


def names_of(tmp_path, text):
    path = tmp_path / "auditlake.toml"
    path.write_text(text)
    return settings.load(path).dashboard.names


def test_a_public_name_is_configured_per_server(tmp_path, monkeypatch):
    text = '[dashboard]\nport = 1\nhost = "192.0.2.5"\nallowed_hosts = ["Audit.example.com:8443"]\n'
    names = names_of(tmp_path, text)
    assert names == {"192.0.2.5", "audit.example.com:8443"}
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(tmp_path / "auditlake.toml"))
    assert settings.public_names("dashboard") == names
    assert settings.public_names("dagster") == {"127.0.0.1"}


def test_an_invalid_configuration_allows_no_public_name(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(tmp_path / "auditlake.toml"))
    (tmp_path / "auditlake.toml").write_text("[lake]\nrot = 1\n")
    assert settings.public_names("dashboard") == frozenset()


@pytest.mark.parametrize("name", ["*", "https://a.example", "a.example/", "", "u@a.example", "a b"])
def test_an_allowed_host_is_a_name(tmp_path, name):
    with pytest.raises(ConfigurationError, match=r"dashboard\.allowed_hosts"):
        names_of(tmp_path, f'[dashboard]\nport = 1\nallowed_hosts = ["{name}"]\n')


def test_a_stream_is_polled_if_its_section_and_its_list_of_streams_contain_it():
    chosen = settings.Settings(integrations={"okta": {}, "entra_id": {"streams": ["sign_ins"]}})
    polled = [("okta", "system_log"), ("entra_id", "sign_ins")]
    others = [("entra_id", "directory_audits"), ("former", "audit")]
    assert [key for key in (*polled, *others) if chosen.polls(key)] == polled


@pytest.mark.parametrize("key", ["allow_invalid_certificates", "AWS_ALLOW_INVALID_CERTIFICATES"])
def test_no_option_of_a_store_turns_the_verification_of_tls_off(key):
    for section in (settings.LakeSettings, partial(settings.Anchor, bucket="s3://bucket")):
        with pytest.raises(ValidationError, match="TLS is always verified"):
            section(storage_options={key: "true"})


def test_witnesses_have_an_address_a_key_and_a_quorum_that_they_can_reach():
    one, two = (
        {"url": f"https://{name}.example/", "key": cosignatures.new_key(name).vkey}
        for name in ("one", "two")
    )
    chosen = settings.IntegritySettings(witnesses=[one, two], quorum=1)
    assert [each.name for each in chosen.witnesses] == ["one", "two"]
    assert chosen.witnesses[0].url == "https://one.example"
    plain, key = {**one, "url": "http://one.example"}, {**one, "key": note.new_key("log").vkey}
    for given in (
        {"witnesses": [plain]},
        {"witnesses": [key]},
        {"witnesses": [{"url": one["url"]}]},
        {"witnesses": [one, one]},
        {"witnesses": [one], "quorum": 2},
        {"witnesses": [one], "quorum": 0},
        {"quorum": 1},
    ):
        with pytest.raises(ConfigurationError, match="integrity"):
            settings.validated(settings.Settings, {"integrity": given}, "auditlake.toml")
