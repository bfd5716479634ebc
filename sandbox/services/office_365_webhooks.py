"""Webhooks of the Office 365 Management Activity API, simulated.

https://learn.microsoft.com/office/office-365-management-api/office-365-management-activity-api-reference
A webhook is validated when a subscription starts with it. It is notified of blobs, not of events,
and must answer 200. Failures are retried with growing pauses; then the webhook is disabled until
the subscription is started again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from sandbox import microsoft, pushes
from sandbox.pushes import Attempt, Carried, Delivery, NotHere, Patience, Subscription
from sandbox.service import Site, iso
from sandbox.services.office_365_refusals import Refusal

_PATIENCE = Patience(
    timeout=10.0,
    pauses=(2.0, 4.0, 8.0, 16.0, 32.0),
    taken=lambda status: status == 200,
    again=lambda _status: True,
)
_POLL_EVERY = 2.0


class _WebhookSpec(msgspec.Struct, frozen=True, rename="camel"):
    address: str
    auth_id: str | None = None
    expiration: str | None = None


class _Body(msgspec.Struct, frozen=True):
    webhook: _WebhookSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A blob as an item of a notification, and the records in it."""

    item: dict[str, str]
    carries: Sequence[Carried]


@dataclass(slots=True, kw_only=True)
class Webhook:
    address: str
    auth_id: str
    expiration: str | None
    status: str = "enabled"
    told: list[tuple[datetime, dict[str, str]]] = field(default_factory=list)
    """The items of sent notifications, with the time and the outcome."""
    subscription: Subscription | None = None

    def shown(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "address": self.address,
            "authId": self.auth_id,
            "expiration": self.expiration,
        }

    def headers(self) -> dict[str, str]:
        return {"Webhook-AuthID": self.auth_id} if self.auth_id else {}

    def expired(self, now: datetime) -> bool:
        return bool(self.expiration) and _time(self.expiration or "") <= now

    def follow(self, site: Site, news: Callable[[], list[Notice]]) -> None:
        def fresh() -> Iterator[Delivery]:
            if self.expired(site.clock()):
                self.status = "expired"
            # Advance even while disabled: those blobs are never notified later.
            notices = news()
            if self.status == "enabled" and notices:
                yield _notification(self, notices)

        def ended(attempt: Attempt, delivery: Delivery) -> None:
            self._record(
                delivery, site.clock(), "success" if attempt.fate == "delivered" else "failed"
            )
            if attempt.fate == "given up":
                self.status = "disabled"

        self.subscription = Subscription(
            kind="office_365", fresh=fresh, patience=_PATIENCE, every=_POLL_EVERY, ended=ended
        )
        site.courier.subscribe(self.subscription)

    def leave(self, site: Site) -> None:
        if self.subscription:
            site.courier.unsubscribe(self.subscription)

    def _record(self, delivery: Delivery, now: datetime, status: str) -> None:
        sent = {"notificationSent": iso(now), "notificationStatus": status}
        self.told += [(now, item | sent) for item in msgspec.json.decode(delivery.body)]


def read(body: bytes, now: datetime) -> Webhook | None:
    """Return the webhook in the body of a start request, if any. Raises Refusal."""
    if not body.strip():
        return None
    try:
        spec = msgspec.json.decode(body, type=_Body).webhook
    except msgspec.DecodeError as error:
        raise Refusal(400, "AF20002", f"Invalid parameter type: {error}") from None
    if spec is None:
        return None
    _check_address(spec.address)
    webhook = Webhook(
        address=spec.address, auth_id=spec.auth_id or "", expiration=spec.expiration or None
    )
    if webhook.expired(now):
        raise Refusal(400, "AF20003", f"Expiration {spec.expiration} provided is in the past.")
    return webhook


def same(former: Webhook | None, wanted: Webhook | None) -> bool:
    """Return True if a start request would change nothing."""
    if former is None or wanted is None:
        return former is wanted
    return former.shown() == wanted.shown()


def validate(site: Site, webhook: Webhook) -> None:
    """Send the validation request. Raises Refusal unless the address answers 200."""
    code = str(uuid.uuid4())
    delivery = Delivery(
        kind="office_365",
        what="validation",
        url=webhook.address,
        headers={
            "Content-Type": "application/json; charset=utf-8",
            "Webhook-ValidationCode": code,
            **webhook.headers(),
        },
        body=msgspec.json.encode({"validationCode": code}),
    )
    answer = site.courier.send(delivery, _PATIENCE.timeout)
    if answer is None or answer.status_code != 200:
        raise _not_validated(webhook.address, "The endpoint did not return HTTP 200.")


def _notification(webhook: Webhook, notices: Sequence[Notice]) -> Delivery:
    """Return a notification; its content type is spelled as Microsoft spells it."""
    named = {"tenantId": microsoft.TENANT_ID, "clientId": microsoft.CLIENT_ID}
    return Delivery(
        kind="office_365",
        what="notification",
        url=webhook.address,
        headers={"Content-Type": "application/json; utf-8", **webhook.headers()},
        body=msgspec.json.encode([named | notice.item for notice in notices]),
        carries=[carried for notice in notices for carried in notice.carries],
    )


def _check_address(address: str) -> None:
    try:
        pushes.check(address)
    except NotHere as error:
        raise _not_validated(address, str(error)) from None


def _not_validated(address: str, reason: str) -> Refusal:
    message = f"The webhook endpoint ({address}) could not be validated. {reason}"
    return Refusal(400, "AF20021", message)


def _time(text: str) -> datetime:
    """Parse a time; without a zone it is UTC. Raises Refusal."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(400, "AF20002", f"Invalid parameter type: {text}.") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
