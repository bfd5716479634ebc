"""What vendors push to us by: made, looked at, renewed and ended, and kept in a file each.

The receiver renews by itself what was registered once: Google's channels end after six hours, and
a service may switch off what it could not deliver to.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from pipelines import disk
from pipelines.clock import Clock, utc_now
from pipelines.errors import AuditlakeError, ConfigurationError
from pipelines.extraction import client
from pipelines.extraction.client import ServiceClient
from pipelines.sdk.contract import Source
from pipelines.sdk.push import Endpoint, Push, Subscription, SubscriptionApi, Subscriptions
from pipelines.settings import Settings

_EARLY = timedelta(hours=1)
_LOOK_EVERY = timedelta(minutes=15)
_WAKE_SECONDS = 60.0
_STOP_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """What was registered for an integration."""

    address: str
    known: list[Subscription]
    looked_at: datetime
    fault: str | None = None
    """Why the last renewal failed."""

    def due(self, now: datetime) -> bool:
        """Is one of them about to end, or not active any more?"""
        return any(
            not each.active or (each.expires is not None and each.expires - now < _EARLY)
            for each in self.known
        )


Connect = Callable[[Source], ServiceClient]


def manager(source: Source) -> ServiceClient:
    """A client that may do more than read, where the vendor makes that difference."""
    push = _push(source)
    if push.auth is None:
        return client.connect(source)
    integration = replace(source.integration, auth=push.auth)
    return client.connect(replace(source, integration=integration))


def endpoint(chosen: Settings, source: Source) -> Endpoint:
    """Raises ConfigurationError where something is to be set first."""
    _push(source)
    secret, root = source.settings.webhook_secret, chosen.webhooks.public_url
    if secret is None:
        raise ConfigurationError(
            f"integrations.{source.name}: webhook_secret: missing: set it to what "
            "`openssl rand -hex 32` prints"
        )
    if root is None:
        raise ConfigurationError(
            "webhooks.public_url: missing: set it to the https address under which the vendor "
            "reaches `auditlake receive`"
        )
    return Endpoint(
        name=source.name,
        address=f"{root}/{source.name}",
        secret=secret,
        streams=[stream.name for stream in source.streams()],
    )


def register(
    source: Source, at: Endpoint, root: Path, now: datetime, connect: Connect = manager
) -> Registration:
    """Make the vendor push, or renew it. Raises AuditlakeError."""
    api = _subscription_api(source)
    before = load(root, source.name)
    with connect(source) as client:
        known = api.register(source.settings, client, at, before.known if before else (), now)
    return _remember(root, source.name, at.address, known, now)


def refresh(
    source: Source, at: Endpoint, root: Path, now: datetime, connect: Connect = manager
) -> Registration:
    """What the vendor says of it now. Raises AuditlakeError."""
    api = _subscription_api(source)
    before = load(root, source.name)
    with connect(source) as client:
        known = api.current(source.settings, client, at, before.known if before else ())
    if before is None:
        return Registration(address=at.address, known=list(known), looked_at=now)
    lost = [replace(each, active=False, note="gone") for each in _missing(before.known, known)]
    return _remember(root, source.name, at.address, [*known, *lost], now)


def remove(source: Source, at: Endpoint, root: Path, connect: Connect = manager) -> None:
    """End it. Raises AuditlakeError."""
    api = _subscription_api(source)
    before = load(root, source.name)
    with connect(source) as client:
        api.remove(source.settings, client, at, before.known if before else ())
    _file(root, source.name).unlink(missing_ok=True)


def steps(source: Source, at: Endpoint) -> list[str]:
    """What a person does in the vendor's console; holds the secret, so it is shown, not logged."""
    secret = at.secret.get_secret_value()
    return [step.format(address=at.address, secret=secret) for step in _push(source).steps]


def load(root: Path, name: str) -> Registration | None:
    """What was registered, as far as this machine knows."""
    try:
        return msgspec.json.decode(_file(root, name).read_bytes(), type=Registration)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def renew(
    source: Source, at: Endpoint, root: Path, now: datetime, connect: Connect = manager
) -> Registration | None:
    """Look at what was registered, and register again what is about to end or was switched off."""
    enrolled = load(root, source.name)
    if enrolled is None or not _push(source).subscription_api:
        return None
    try:
        if now - enrolled.looked_at >= _LOOK_EVERY:
            enrolled = refresh(source, at, root, now, connect)
        if not enrolled.due(now) and enrolled.address == at.address:
            return enrolled
        return register(source, at, root, now, connect)
    except AuditlakeError as error:
        _log.warning("%s: its subscriptions could not be renewed: %s", source.name, error)
        failed = msgspec.structs.replace(enrolled, fault=str(error), looked_at=now)
        _write(_file(root, source.name), failed)
        return failed


@dataclass(slots=True, kw_only=True)
class Renewer:
    """Renews what was registered, in a thread of its own."""

    chosen: Settings
    root: Path
    sources: Sequence[Source]
    told: Callable[[str, Subscriptions], None] = lambda _name, _known: None
    """Told of the subscriptions of an integration where they have changed."""
    connect: Connect = manager
    clock: Clock = utc_now
    _seen: dict[str, Subscriptions] = field(default_factory=dict)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                self.once()
                stop.wait(_WAKE_SECONDS)

        thread = threading.Thread(target=work, name="renewals", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(_STOP_SECONDS)

    def once(self) -> None:
        """All that are registered; a fault is told, and the others go on."""
        for source in self.sources:
            if load(self.root, source.name) is None:
                continue
            try:
                at = endpoint(self.chosen, source)
            except ConfigurationError as error:
                _log.warning("%s", error)
                continue
            enrolled = renew(source, at, self.root, self.clock(), self.connect)
            if enrolled and enrolled.known != self._seen.get(source.name):
                self._seen[source.name] = enrolled.known
                self.told(source.name, enrolled.known)


def _push(source: Source) -> Push:
    push = source.integration.push
    if push is None:
        raise ConfigurationError(
            f"{source.name}: {source.integration.title} pushes nothing that could be received: "
            "polling reads it"
        )
    return push


def _subscription_api(source: Source) -> SubscriptionApi:
    subscription_api = _push(source).subscription_api
    if subscription_api is None:
        raise ConfigurationError(
            f"{source.name}: only {source.integration.title}'s console does this: "
            "`auditlake webhooks register` prints the steps"
        )
    return subscription_api


def _missing(before: Subscriptions, now: Subscriptions) -> list[Subscription]:
    known = {each.id for each in now}
    return [each for each in before if each.id not in known]


def _remember(
    root: Path, name: str, address: str, known: Subscriptions, now: datetime
) -> Registration:
    enrolled = Registration(address=address, known=list(known), looked_at=now.astimezone(UTC))
    _write(_file(root, name), enrolled)
    return enrolled


def _file(root: Path, name: str) -> Path:
    return root / ".subscriptions" / f"{name}.json"


def _write(path: Path, enrolled: Registration) -> None:
    """All of it or nothing: without a channel's id it cannot be ended."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(msgspec.json.encode(enrolled))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    disk.sync(path.parent)
