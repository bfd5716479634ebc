"""Registration of webhooks with the vendors, saved in one file per integration.

The receiver keeps registered webhooks alive: Google's channels expire after six hours, and a vendor
may deactivate a webhook that it could not deliver to.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from pipelines import disk
from pipelines.clock import Clock, utc_now
from pipelines.errors import AuditlakeError, ConfigurationError, explained
from pipelines.extraction import client
from pipelines.extraction.client import ServiceClient
from pipelines.sdk.contract import Source
from pipelines.sdk.push import Endpoint, Push, Subscription, SubscriptionApi, Subscriptions
from pipelines.settings import Settings

_RENEW_BEFORE = timedelta(hours=1)
_CHECK_EVERY = timedelta(minutes=15)
_WAKE_SECONDS = 60.0
_STOP_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """The webhooks registered for an integration, as saved on this machine."""

    address: str
    known: list[Subscription]
    looked_at: datetime
    fault: str | None = None
    """The error of the last renewal, if it failed."""

    def is_due(self, now: datetime) -> bool:
        """Return True if a subscription expires soon or is no longer active."""
        return any(
            not each.active or (each.expires is not None and each.expires - now < _RENEW_BEFORE)
            for each in self.known
        )


Connect = Callable[[Source], ServiceClient]


def management_client(source: Source) -> ServiceClient:
    """Return a client that may register webhooks, where that needs more permission than reading."""
    push = _push(source)
    if push.auth is None:
        return client.connect(source)
    integration = replace(source.integration, auth=push.auth)
    return client.connect(replace(source, integration=integration))


def endpoint(chosen: Settings, source: Source) -> Endpoint:
    """Return the address and secret to register. Raises ConfigurationError if one is not set."""
    _push(source)
    secret, root = source.settings.webhook_secret, chosen.webhooks.public_url
    if secret is None:
        raise ConfigurationError(
            f"integrations.{source.name}: webhook_secret: missing: set it to the output of "
            "`openssl rand -hex 32`"
        )
    if root is None:
        raise ConfigurationError(
            "webhooks.public_url: missing: set it to the https address at which vendors reach "
            "`auditlake receive`"
        )
    return Endpoint(
        name=source.name,
        address=f"{root}/{source.name}",
        secret=secret,
        streams=[stream.name for stream in source.streams()],
    )


def register(
    source: Source, at: Endpoint, root: Path, now: datetime, connect: Connect = management_client
) -> Registration:
    """Create or renew the subscriptions, and save them. Raises AuditlakeError."""
    api = _subscription_api(source)
    before = load(root, source.name)
    # The saved ones are passed on, because Google has no API to list its channels.
    with connect(source) as client, client.reading():
        known = api.register(source.settings, client, at, before.known if before else (), now)
    return _save(root, source.name, at.address, known, now)


def refresh(
    source: Source, at: Endpoint, root: Path, now: datetime, connect: Connect = management_client
) -> Registration:
    """Return the subscriptions as the vendor reports them now. Raises AuditlakeError."""
    api = _subscription_api(source)
    before = load(root, source.name)
    with connect(source) as client, client.reading():
        known = api.current(source.settings, client, at, before.known if before else ())
    # Not saved, because the receiver renews all that is saved: only `register` starts that.
    if before is None:
        return Registration(address=at.address, known=list(known), looked_at=now)
    lost = [replace(each, active=False, note="gone") for each in _missing(before.known, known)]
    return _save(root, source.name, at.address, [*known, *lost], now)


def remove(source: Source, at: Endpoint, root: Path, connect: Connect = management_client) -> None:
    """Remove the subscriptions at the vendor, then their file. Raises AuditlakeError."""
    api = _subscription_api(source)
    before = load(root, source.name)
    with connect(source) as client, client.reading():
        api.remove(source.settings, client, at, before.known if before else ())
    _file(root, source.name).unlink(missing_ok=True)


def steps(source: Source, at: Endpoint) -> list[str]:
    """Return instructions for the vendor's console; they contain the secret, so never log them."""
    secret = at.secret.get_secret_value()
    return [step.format(address=at.address, secret=secret) for step in _push(source).steps]


def load(root: Path, name: str) -> Registration | None:
    """Return the saved registration; None if there is none or it cannot be read."""
    try:
        return msgspec.json.decode(_file(root, name).read_bytes(), type=Registration)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def renew(
    source: Source, at: Endpoint, root: Path, now: datetime, connect: Connect = management_client
) -> Registration | None:
    """Renew subscriptions that expire soon, are inactive or have another address.

    Return the registration, with `fault` if that failed; None if nothing was registered.
    """
    saved = load(root, source.name)
    if saved is None or not _push(source).subscription_api:
        return None
    try:
        if now - saved.looked_at >= _CHECK_EVERY:
            saved = refresh(source, at, root, now, connect)
        # Another address: public_url was changed since.
        if not saved.is_due(now) and saved.address == at.address:
            return saved
        return register(source, at, root, now, connect)
    except AuditlakeError as error:
        _log.warning("%s: cannot renew the webhook: %s", source.name, error)
        failed = msgspec.structs.replace(saved, fault=str(error), looked_at=now)
        _write(_file(root, source.name), failed)
        return failed


@dataclass(slots=True, kw_only=True)
class Renewer:
    """Renews registered webhooks in a background thread."""

    chosen: Settings
    root: Path
    sources: Sequence[Source]
    on_change: Callable[[str, Subscriptions], None] = lambda _name, _known: None
    """Called with an integration's name and subscriptions whenever they change."""
    connect: Connect = management_client
    clock: Clock = utc_now
    _last: dict[str, Subscriptions] = field(default_factory=dict)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Renew once a minute until the context ends."""
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                self.run_once()
                stop.wait(_WAKE_SECONDS)

        # A daemon: a vendor that does not answer must not keep the process alive.
        thread = threading.Thread(target=work, name="renewer", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(_STOP_SECONDS)

    def run_once(self) -> None:
        """Renew every registered webhook; a failure is logged and does not affect the others."""
        for source in self.sources:
            if load(self.root, source.name) is None:
                continue
            try:
                at = endpoint(self.chosen, source)
            except ConfigurationError as error:
                _log.warning("%s", error)
                continue
            try:
                with explained():
                    current = renew(source, at, self.root, self.clock(), self.connect)
            except AuditlakeError as error:
                _log.warning("%s: %s", source.name, error)
                continue
            if current and current.known != self._last.get(source.name):
                self._last[source.name] = current.known
                self.on_change(source.name, current.known)


def _push(source: Source) -> Push:
    push = source.integration.push
    if push is None:
        raise ConfigurationError(
            f"{source.name}: {source.integration.title} has no webhooks that could be received: "
            "its events are polled"
        )
    return push


def _subscription_api(source: Source) -> SubscriptionApi:
    subscription_api = _push(source).subscription_api
    if subscription_api is None:
        raise ConfigurationError(
            f"{source.name}: {source.integration.title} manages webhooks in its console only: "
            f"`auditlake webhooks register {source.name}` prints the steps"
        )
    return subscription_api


def _missing(before: Subscriptions, now: Subscriptions) -> list[Subscription]:
    known = {each.id for each in now}
    return [each for each in before if each.id not in known]


def _save(root: Path, name: str, address: str, known: Subscriptions, now: datetime) -> Registration:
    registration = Registration(address=address, known=list(known), looked_at=now.astimezone(UTC))
    _write(_file(root, name), registration)
    return registration


def _file(root: Path, name: str) -> Path:
    return root / ".subscriptions" / f"{name}.json"


def _write(path: Path, enrolled: Registration) -> None:
    """Save in full or not at all: a channel cannot be removed without its ID."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    disk.write_atomically(path, msgspec.json.encode(enrolled))
