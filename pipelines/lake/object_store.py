"""Object stores, opened with the options that delta-rs takes.

delta-rs has one set of options. obstore takes those of the service, of the HTTP client and of
retries apart, and panics or refuses where they are mixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.errors import ConfigurationError, LakeError, raised_as

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PREFIXES = ("aws_", "azure_", "google_")
_CLIENT = frozenset(
    {
        *("allow_http", "allow_invalid_certificates", "default_content_type", "user_agent"),
        *("connect_timeout", "read_timeout", "timeout", "randomize_addresses"),
        *("http1_only", "http2_only", "http2_keep_alive_interval", "http2_keep_alive_timeout"),
        *("http2_keep_alive_while_idle", "pool_idle_timeout", "pool_max_idle_per_host"),
        *("proxy_url", "proxy_ca_certificate", "proxy_excludes", "root_certificate"),
    }
)
# Of delta-rs alone: retries, and how it commits.
_DELTA = (
    *("max_retries", "retry_timeout", "backoff_config", "aws_s3_locking_provider"),
    *("aws_s3_allow_unsafe_rename", "allow_unsafe_rename", "mount_allow_unsafe_rename"),
    *("dynamo", "delta_dynamo", "object_store_", "delta_log_", "aws_endpoint_url_dynamodb"),
)


_PROBE = ".conditional-put"


def opened(url: str, options: Mapping[str, str] | None) -> ObjectStore:
    """Return the object store at `url`. Raises ConfigurationError and LakeError."""
    return _opened(url, tuple(sorted((options or {}).items())))


@lru_cache(maxsize=64)
def _opened(url: str, options: tuple[tuple[str, str], ...]) -> ObjectStore:
    try:
        from obstore.store import LocalStore, from_url  # noqa: PLC0415 only for such a lake
    except ImportError:
        raise ConfigurationError(
            f"{url}: a lake in an object store requires obstore: pip install 'auditlake[objects]'"
        ) from None
    if url.startswith("file://"):
        return LocalStore(url.removeprefix("file://"), mkdir=True)
    config, client, retry = _split(dict(options))
    with errors(url):
        return from_url(url, config=config, client_options=client, retry_config=retry)


def create(store: ObjectStore, path: str, data: bytes) -> bool:
    """Write an object unless it exists; return whether it did not. Raises the store's errors."""
    import obstore  # noqa: PLC0415 only for such a lake
    from obstore import exceptions  # noqa: PLC0415

    try:
        obstore.put(store, path, data, mode="create")
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
        return False
    return True


def get(url: str, options: Mapping[str, str], path: str) -> tuple[bytes, str | None]:
    """Return the content and e-tag of an object; b"" and None if it does not exist.

    Raises ConfigurationError and LakeError.
    """
    import obstore  # noqa: PLC0415

    with errors(url):
        try:
            found = obstore.get(opened(url, options), path)
        except FileNotFoundError:
            return b"", None
        return bytes(found.bytes()), found.meta["e_tag"]


def swap(
    url: str, options: Mapping[str, str], path: str, content: bytes, tag: str | None
) -> str | None:
    """Write an object whose e-tag is `tag`, or that must not exist if that is None.

    Return the new e-tag, or None if another writer was first. Raises ConfigurationError and
    LakeError.
    """
    import obstore  # noqa: PLC0415
    from obstore import exceptions  # noqa: PLC0415

    store = opened(url, options)
    with errors(url):
        try:
            done = obstore.put(store, path, content, mode={"e_tag": tag} if tag else "create")
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError, FileNotFoundError):
            return None
        except NotImplementedError:  # a local store has no conditional update
            done = obstore.put(store, path, content)
        return done["e_tag"] or ""


def commits(url: str, options: tuple[tuple[str, str], ...], first: int) -> dict[int, str]:
    """Return the e-tags of the commits from version `first` on in a log, with one request.

    Of very many, only the first ones. Raises ConfigurationError and LakeError.
    """
    import obstore  # noqa: PLC0415

    with errors(url):
        page = next(iter(obstore.list(_opened(url, options), offset=f"{first:020}")), [])
    return {
        int(meta["path"].removesuffix(".json")): str(meta["e_tag"])
        for meta in page
        if meta["path"].removesuffix(".json").isdecimal()
    }


def names(url: str, options: Mapping[str, str]) -> list[str]:
    """Return the paths of all objects below `url`, sorted. Raises ConfigurationError, LakeError."""
    return sorted(written(url, options))


def written(url: str, options: Mapping[str, str]) -> dict[str, datetime]:
    """Return the paths of all objects below `url` with the times when they were written.

    Raises ConfigurationError and LakeError.
    """
    import obstore  # noqa: PLC0415

    with errors(url):
        pages = obstore.list(opened(url, options))
        return {meta["path"]: meta["last_modified"] for page in pages for meta in page}


def folders(url: str, options: Mapping[str, str]) -> set[str]:
    """Return the names of the folders directly below `url`, with one request.

    Raises ConfigurationError and LakeError.
    """
    import obstore  # noqa: PLC0415

    with errors(url):
        found = obstore.list_with_delimiter(opened(url, options))
    return {path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"]}


class Listing(NamedTuple):
    """The log of a table, as a listing shows it."""

    commits: dict[int, str]
    """Version -> e-tag."""
    checkpoints: list[int]


def logs(
    url: str, options: Mapping[str, str], below: str, first: str | None = None
) -> dict[str, Listing]:
    """Return the logs of the tables below a folder, by table, without those that have no commit.

    Only objects after the path `first` are listed, if it is given. Raises ConfigurationError and
    LakeError.
    """
    import obstore  # noqa: PLC0415

    found: dict[str, Listing] = {}
    with errors(url):
        for meta in chain.from_iterable(obstore.list(opened(url, options), below, offset=first)):
            table, _, name = meta["path"].partition("/_delta_log/")
            listing = found.setdefault(table, Listing({}, []))
            if (version := name.removesuffix(".json")).isdecimal():
                listing.commits[int(version)] = str(meta["e_tag"])
            elif (version := name.removesuffix(".checkpoint.parquet")).isdecimal():
                listing.checkpoints.append(int(version))
    return {table: listing for table, listing in found.items() if listing.commits}


def delete(url: str, options: Mapping[str, str], paths: Sequence[str]) -> None:
    """Delete objects below `url`. Raises ConfigurationError and LakeError."""
    import obstore  # noqa: PLC0415

    with errors(url):
        obstore.delete(opened(url, options), list(paths))


@lru_cache
def require_conditional_put(url: str, options: tuple[tuple[str, str], ...]) -> None:
    """Raise ConfigurationError if the store at `url` lets two writers create the same object.

    Its commits would overwrite each other. The object of this test stays there, so that later
    processes need one request. Raises LakeError if the store cannot be written.
    """
    store = opened(url, dict(options))
    with errors(url):
        if create(store, _PROBE, b"") and create(store, _PROBE, b""):
            raise ConfigurationError(
                f"{url}: this store ignores If-None-Match, so writers would overwrite each other's "
                "commits: use one with conditional writes, such as S3, R2, MinIO, Azure or GCS"
            )


def errors(url: str) -> AbstractContextManager[None]:
    """Raise LakeError for any error of the store at `url`: one line, with advice."""
    return raised_as(
        lambda error: LakeError(
            f"{url}: {_in_a_line(error)}: check lake.root and lake.storage_options, or those of "
            "the anchor, then run it again"
        )
    )


def _split(options: Mapping[str, str]) -> tuple[Any, Any, Any]:
    """Return the options of the service, of the HTTP client and of retries."""
    config, client, retry = {}, {}, {}
    for key, value in options.items():
        name = key.lower()
        prefix = next((each for each in _PREFIXES if name.startswith(each)), "")
        if name.removeprefix(prefix) in _CLIENT:
            client[name.removeprefix(prefix)] = value
        elif name == "max_retries" and value.isdecimal():
            retry[name] = int(value)
        elif not name.startswith(_DELTA):
            config[key] = value
    return config, client, retry


def _in_a_line(error: BaseException) -> str:
    """Return the message without the nested debug output that obstore appends."""
    return " ".join(str(error).partition("\n\nDebug source")[0].split())[:300]
