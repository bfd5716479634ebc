"""Microsoft 365's unified audit log, from the Office 365 Management Activity API.

Content is listed by the time it became available, in windows aligned to the hour, and each listed
blob is fetched once: the cursor remembers the blobs of the hours that will be listed again. So
coverage here refers to availability; an event may be a day older than its blob.
https://learn.microsoft.com/office/office-365-management-api/office-365-management-activity-api-reference
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
from pydantic import Field as Setting
from pydantic import field_validator

from pipelines.errors import AuditlakeError, Held, Refused, TooHeavy, Unavailable
from pipelines.sdk import (
    answers,
    endings,
    geo,
    json_records,
    links,
    microsoft,
    values,
    webhook_auth,
    windows,
)
from pipelines.sdk.contract import Columns, Docs, Field, Integration, RequestPolicy, Stream
from pipelines.sdk.endings import Ending
from pipelines.sdk.pages import Cursor, Gap, Page, Span
from pipelines.sdk.pagination import Trail
from pipelines.sdk.push import (
    Delivery,
    Endpoint,
    Headers,
    Push,
    Reference,
    Subscription,
    SubscriptionApi,
    Subscriptions,
)
from pipelines.settings import Address

# Five minutes less than the service's retention: it refuses a window that starts too early.
_KEEPS = timedelta(days=7) - timedelta(minutes=5)
# 24 hours are the most per listing: 21, an hour to settle, and both ends rounded to full hours.
_WALK = windows.RereadPlan(
    window=timedelta(hours=21),
    settle=timedelta(hours=1),
    ages=(timedelta(hours=6), timedelta(days=1)),
    always=(timedelta(hours=6), timedelta(days=1)),
    keeps=_KEEPS,
)
_HOUR = timedelta(hours=1)
_LISTED_AGAIN = timedelta(hours=3)
_AT_ONCE = 8
_GONE = frozenset({"AF20050", "AF20051", "AF20052"})
_NOT_SUBSCRIBED = frozenset({"AF20022", "AF20023"})
_LOST_PAGE = "AF20031"
_CODE = re.compile(rb"\bAF\d{3,5}\b")

_ROOT = "https://manage.office.com"
_LOGIN = "https://login.microsoftonline.com"
_LOGINS = {
    _ROOT: _LOGIN,
    "https://manage-gcc.office.com": _LOGIN,
    "https://manage.office365.us": "https://login.microsoftonline.us",
    "https://manage.protection.apps.mil": "https://login.microsoftonline.us",
}


class Settings(microsoft.Settings):
    logins = _LOGINS
    kind: str = "office_365"
    base_url: Address = _ROOT
    authority_url: Address = microsoft.authority_url(_LOGINS)
    publisher_id: str = Setting(default_factory=lambda given: given.get("tenant_id", ""))
    """The client's vendor, as a tenant ID; requests without one share a small quota."""

    @field_validator("tenant_id")
    @classmethod
    def _no_domain(cls, value: str) -> str:
        if "." in value:
            raise ValueError("a domain is not accepted: give the directory's GUID in the portal")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Feed:
    """One content type of one tenant."""

    tenant_id: str
    publisher_id: str
    content_type: str

    def url(self, operation: str, **query: str) -> str:
        encoded = urlencode({"contentType": self.content_type, **query}, safe=":")
        root = f"/api/v1.0/{self.tenant_id}/activity/feed/subscriptions"
        return self.published(f"{root}/{operation}?{encoded}")

    def published(self, link: str) -> str:
        """Return a link with the PublisherIdentifier that every request needs."""
        if "publisheridentifier=" in link.lower():
            return link
        return f"{link}{'&' if '?' in link else '?'}PublisherIdentifier={self.publisher_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blob:
    """A listed content blob."""

    uri: str
    created: datetime
    mark: str
    """A short hash of its contentId."""

    @property
    def hour(self) -> str:
        return f"{self.created:%Y-%m-%dT%H}"


Seen = dict[str, list[str]]
"""Hour -> the marks of those of its blobs that have landed."""


def begin(since: datetime, now: datetime) -> Cursor:
    return _cursor(windows.begin(_WALK)(since, now), {})


def between(span: Span, now: datetime) -> Cursor:
    return _cursor(windows.between(_WALK)(span, now), {})


def _pages(feed: _Feed, client: httpx.Client, cursor: Cursor, now: datetime) -> Iterator[Page]:
    kept = json.loads(cursor)
    seen: Seen = kept["seen"]
    read = partial(_read, feed, seen, windows.moving(now - _KEEPS))
    for page in windows.pages(_WALK, read)(client, kept["at"], now):
        if page.covers:
            _forget(seen, page.cursor, now)
        yield replace(page, cursor=_cursor(page.cursor, seen))


def _cursor(at: Cursor, seen: Seen) -> Cursor:
    return json.dumps({"at": at, "seen": seen}, separators=(",", ":"))


def _forget(seen: Seen, at: Cursor, now: datetime) -> None:
    """Drop the hours that will not be listed again, except those of an interrupted window."""
    history = json.loads(at)["history"]
    ends = datetime.fromisoformat(history[1]) if history else now
    recent, first, last = (
        f"{time:%Y-%m-%dT%H}" for time in (now - _LISTED_AGAIN, ends - _WALK.window - _HOUR, ends)
    )
    for hour in list(seen):
        if hour < recent and not (history and first <= hour <= last):
            del seen[hour]


def _read(
    feed: _Feed, seen: Seen, oldest: Callable[[], datetime], client: httpx.Client, span: Span
) -> Iterator[Sequence[bytes] | Gap]:
    """Yield the records of a span's blobs, newest first.

    Blobs are fetched in parallel batches. A failed blob is raised after the rest of its batch.
    """
    listed = [b for b in _listed(feed, client, span, oldest()) if _falls_into(b.created, span)]
    waiting = [blob for blob in listed if blob.mark not in seen.get(blob.hour, ())]
    waiting.sort(key=lambda blob: blob.created, reverse=True)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for start in range(0, len(waiting), _AT_ONCE):
            batch = waiting[start : start + _AT_ONCE]
            failure = None
            for blob, got in zip(
                batch, pool.map(partial(_fetch, feed, client), batch), strict=True
            ):
                if isinstance(got, AuditlakeError):
                    failure = got
                else:
                    seen.setdefault(blob.hour, []).append(blob.mark)
                    yield got
            if failure:
                raise failure


def _falls_into(created: datetime, span: Span) -> bool:
    # `until` is cut to the second, so blobs of the current second belong to the span.
    return span.since <= created < span.until + timedelta(seconds=1)


def _fetch(feed: _Feed, client: httpx.Client, blob: _Blob) -> list[bytes] | Gap | AuditlakeError:
    """Return the blob's records, a gap if it is gone, or the error."""
    try:
        response = client.get(feed.published(blob.uri))
        return json_records.split_array(response.content)
    except Refused as error:
        if error.status not in (404, 410) and _code(error.body) not in _GONE:
            return error
        span = Span(since=blob.created, until=blob.created + timedelta(seconds=1))
        return Gap(span=span, reason=f"listed content is gone: {error}")
    except json_records.MalformedJson as error:
        return Unavailable(
            f"office_365 answered 200 with malformed content ({error})"
            f"{answers.quoted(response)}; the next round retries"
        )
    except TooHeavy as error:  # a shorter span has the same blob
        return Unavailable(str(error))
    except AuditlakeError as error:
        return error


def _listed(feed: _Feed, client: httpx.Client, span: Span, oldest: datetime) -> list[_Blob]:
    """Return all content of a span, starting the subscription if there is none."""
    try:
        return _list(feed, client, span, oldest)
    except Refused as error:
        code = _code(error.body)
        if code in _NOT_SUBSCRIBED:
            _start(feed, client)
        elif code != _LOST_PAGE:  # a page link has expired: list again from the start
            raise
    return _list(feed, client, span, oldest)


def _list(feed: _Feed, client: httpx.Client, span: Span, oldest: datetime) -> list[_Blob]:
    since = max(_hour(span.since), oldest)
    until = _hour(span.until + _HOUR - timedelta(microseconds=1))
    found: list[_Blob] = []
    link: str | None = feed.url("content", startTime=_text(since), endTime=_text(until))
    trail = Trail(f"office_365 {feed.content_type}")
    while link:
        response = client.get(link)
        listed = json_records.split_array(response.content)
        found += [_blob(client, item) for item in listed]
        following = response.headers.get("NextPageUri") or response.headers.get("NextPageUrl")
        link = feed.published(links.own_link(client, following)) if following else None
        if link:
            trail.follow(link, listed)
    return found


def _blob(client: httpx.Client, item: bytes) -> _Blob:
    """Return a listed item as a blob. Raises Unavailable if it cannot be read."""
    content = json_records.load(item)
    try:
        created = datetime.fromisoformat(content["contentCreated"])
        uri = links.own_link(client, content["contentUri"])
        mark = hashlib.blake2s(content["contentId"].encode(), digest_size=6).hexdigest()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unavailable(
            f"office_365 listed malformed content ({error!r}); the next round retries"
        ) from error
    utc = created.astimezone(UTC) if created.tzinfo else created.replace(tzinfo=UTC)
    return _Blob(uri=uri, created=utc, mark=mark)


def _start(feed: _Feed, client: httpx.Client) -> None:
    """Start the subscription; already being subscribed counts as success."""
    try:
        client.post(feed.url("start"))
    except Held as error:
        raise Held(
            f"there is no subscription to {feed.content_type} yet, which a poll starts; the first "
            f"content may take 12 hours ({error})"
        ) from error
    except Refused as error:
        if _code(error.body) != "AF20024" and b"already enabled" not in error.body:
            raise


def _code(body: bytes) -> str:
    """Return the error code, or ""; it is found even if the body is malformed or truncated."""
    found = _CODE.search(body)
    return found[0].decode() if found else ""


def _hour(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)


def _text(time: datetime) -> str:
    """Return a UTC time without a zone, as the API documents it."""
    return f"{time:%Y-%m-%dT%H:%M:%S}"


_ACTOR_TYPES = {
    "0": "user", "1": "user", "2": "user", "3": "system", "4": "system", "5": "application",
    "6": "application", "7": "system", "8": "system", "9": "user", "10": "user",
}  # fmt: skip
_NOTHING = values.NOTHING | {"NOT-FOUND"}
_ALERTS = (28, 29, 34, 40, 41, 47, 51, 61, 62, 64, 68, 78, 86, 89, 90, 98, 115, 128, 166, 167, 168,
           169, 232)  # fmt: skip
# Record types of the security products: mail, link and file threats, alerts and investigations.
_FINDINGS = frozenset({*_ALERTS, *map(str, _ALERTS)})
# Numbers in records; Microsoft's table of the schema begins at 0 instead.
_TEAM_ROLES = {"1": "Member", "2": "Owner", "3": "Guest", "Member": "Member", "Owner": "Owner",
               "Guest": "Guest"}  # fmt: skip
_ANONYMOUS = ("urn:spo:anon#", "anonymous")
_MACHINES = ("NT AUTHORITY\\", "SHAREPOINT\\system", "S-1-5-18")
_PREFIXED = ("User_", "ServicePrincipal_", "Application_", "Group_", "Device_")
_STATUSES = {
    "success": "success",
    "succeeded": "success",
    "true": "success",
    "successful": "success",
    "partiallysucceeded": "success",
    "completed": "success",
    "fail": "failure",
    "failed": "failure",
    "unsuccessful": "failure",
    "error": "failure",
    "failure": "failure",
    "false": "failure",
}
_SIGN_INS = ("UserLoggedIn", "UserLoginFailed")
_SEVERITIES = ("high", "medium", "low", "informational")
_RANK = {"User": 0, "File": 0, "Message": 0, "Url": 0, "Mailbox": 1, "Alert": 1,
         "Investigation": 0, "Group": 2, "Role": 3, "Policy": 3, "Team": 4}  # fmt: skip


def _is_address(user: Any) -> bool:
    return isinstance(user, str) and "@" in user and "." in user[user.index("@") :]


def _email(user: Any) -> str | None:
    return _unfolded(user) if isinstance(user, str) else None


@lru_cache(maxsize=65536)
def _unfolded(user: str) -> str | None:
    return microsoft.email(user) if _is_address(user) else None


def _known(value: Any) -> Any:
    return value if value and not (isinstance(value, str) and value in _NOTHING) else None


def _actor_id(key: Any, actors: Any, record_type: Any, user: Any) -> Any:
    """Return the directory's id, or else the key without the service-specific decoration."""
    own = None
    for item in values.objects(actors) if actors else ():
        if id_ := _known(item.get("ID")):
            if str(id_).startswith(_PREFIXED):
                return str(id_).partition("_")[2]
            if own is None and item.get("Type") == 0:
                own = id_
    if own is not None:
        return own
    # The key of a finding is the product's, even if it is about what a user did.
    if _is_finding(record_type) and _is_product(key) and _is_address(user):
        return None
    return _undecorated(key) if isinstance(key, str) else _known(key)


@lru_cache(maxsize=65536)
def _undecorated(key: str) -> str | None:
    """Return the PUID in a key, or the key; a PUID has 16 hex digits.

    10032000ABCDEF01@live.com, i:0h.f|membership|10032000abcdef01@live.com
    """
    head = key.rpartition("|")[2].partition("@")[0]
    return head.upper() if len(head) == 16 and head.startswith("100") else _known(key)


def _actor_name(shown: Any, user: Any, actors: Any) -> Any:
    if found := (_known(shown) if shown else None) or _email(user):
        return found
    for item in values.objects(actors):
        if item.get("Type") == 1 and _known(item.get("ID")):
            return item["ID"]
    return user


def _is_finding(record_type: Any) -> bool:
    return isinstance(record_type, (int, str)) and record_type in _FINDINGS


def _is_product(key: Any) -> bool:
    return str(key).isalpha()


def _actor_type(kind: Any, user: Any, record_type: Any) -> str | None:
    known = _ACTOR_TYPES.get(str(kind))
    if not isinstance(user, str):
        return known
    by_name = _type_by_name(user)
    if by_name == "address":
        return "user" if _is_finding(record_type) else known
    return by_name or known


@lru_cache(maxsize=65536)
def _type_by_name(user: str) -> str | None:
    if user.startswith(_ANONYMOUS):
        return "anonymous"
    if _is_address(user):
        return "address"
    if user.startswith(("ServicePrincipal_", "app@")):
        return "application"
    return "system" if user.startswith(_MACHINES) else None


def _outcome(operation: Any, status: Any, number: Any, code: Any) -> str:
    # ResultStatus of a failed sign-in is Success, because the request was answered.
    if operation in _SIGN_INS and microsoft.is_interrupt(number or code):
        return "unknown"
    if operation == "UserLoginFailed":
        return "failure"
    if operation == "UserLoggedIn":
        return "success"
    return _STATUSES.get(str(status).lower(), "unknown")


def _reason(error: Any, number: Any, code: Any) -> Any:
    known = number or code
    error = None if error == "Other." else _known(error)
    return error or (f"error {known}" if known and str(known) != "0" else None)


def _address(*given: Any) -> str | None:
    """Return the first address; it may be in parentheses after a host name."""
    for value in given:
        if value is None:
            continue
        if isinstance(value, str):
            if found := geo.address(value):
                return found
        elif isinstance(value, list):
            texts = (text for text in value if isinstance(text, str))
            if found := next(filter(None, map(geo.address, texts)), None):
                return found
    return None


def _sender_address(data: dict[str, Any]) -> Any:
    return data.get("sip") if data else None


def _named(items: Any, name: str) -> Any:
    if isinstance(items, list):
        for item in items:
            if isinstance(item, dict) and item.get("Name") == name:
                return item.get("Value") or item.get("NewValue") or item.get("OldValue")
    return None


def _agent(agent: Any, extended: Any, client: Any) -> Any:
    if found := _known(agent) or _known(_named(extended, "UserAgent")):
        return found
    details = _named(extended, "additionalDetails")
    if details and "User-Agent" in details:
        return _object_in(details).get("User-Agent")
    start = client.find("Mozilla/") if isinstance(client, str) else -1
    return client[start:].rstrip(";") if start >= 0 else None


def _object_in(text: Any) -> dict[str, Any]:
    """Return the object in JSON text, which may contain a key twice; empty if there is none."""
    if not text:
        return {}
    if isinstance(text, dict):
        return text
    with suppress(ValueError, TypeError):
        found = json.loads(text)
        return found if isinstance(found, dict) else {}
    return {}


def _severity(own: Any, alert: Any, policies: Any, data: dict[str, Any]) -> Any:
    if known := _known(own) or _known(alert):
        return known
    if not policies:
        return _known(data.get("Severity")) or _known(data.get("sev"))
    found = {
        str(rule.get("Severity")).lower()
        for policy in values.objects(policies)
        for rule in values.objects(policy.get("Rules"))
    }
    return next((level for level in _SEVERITIES if level in found), None)


def _session(access: Any, device: Any, session: Any) -> Any:
    inside = access.get("AADSessionId") if isinstance(access, dict) else None
    return _known(session) or _known(inside) or _named(device, "SessionId")


def _target(id_: Any, name: Any, kind: Any) -> dict[str, Any]:
    return {"id": id_ or None, "name": name or None, "type": kind}


def _directory_object(parts: Any, object_id: Any) -> list[dict[str, Any]]:
    """Return a directory object, whose id, kind and names are separate items of a list."""
    if not parts:
        return []
    found: dict[Any, Any] = {}
    for part in values.objects(parts):
        text = str(_known(part.get("ID")) or "")
        if text.startswith(_PREFIXED):
            found["kind"], _, found["id"] = text.partition("_")
        else:
            found.setdefault(part.get("Type"), text)
    if not any(found.values()):
        return []
    if "id" not in found:
        return [_target(found.get(0) or object_id, found.get(1), "Application")]
    return [_target(found["id"], found.get(5) or found.get(1) or object_id, found["kind"])]


def _file(name: Any, kind: Any, url: Any, shared_with: Any, their_kind: Any) -> list[Any]:
    if not kind and not name:
        found = _object(url) if shared_with else []
    else:
        found = [_target(url, name or _last_part(str(url or "")), kind or "File")]
    # The recipient of a share is always the second target.
    kind = {"Member": "User", "Guest": "User"}.get(their_kind, their_kind)
    who = _email(shared_with) or shared_with
    return [*found, _target(None, who, kind)] if shared_with else found


def _mail(owner: Any, item: Any, affected: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    items = values.objects(affected) if affected else []
    for one in (item, *items) if isinstance(item, dict) else items:
        id_ = one.get("InternetMessageId") or one.get("Id")
        found.append(_target(id_, one.get("Subject"), "Message"))
        if recipients := one.get("Recipients"):
            found += [_target(None, who, "User") for who in _people(recipients)]
        if isinstance(attached := one.get("Attachments"), str):
            found += [_target(None, name, "File") for name in _ATTACHED.findall(attached)]
        folder = one.get("ParentFolder")
        if isinstance(folder, dict) and (who := _known(folder.get("MemberUpn"))):
            found.append(_target(folder.get("MemberSid"), who, "User"))
            if rights := _known(folder.get("MemberRights")):
                found.append(_target(None, rights, "Permission"))
    return [*found, _target(owner, owner, "Mailbox")] if owner else found


def _team(members: Any, app: Any, team_id: Any, team: Any, channel: Any) -> list[dict[str, Any]]:
    people = values.objects(members)
    found = [_target(m.get("UPN"), m.get("DisplayName") or m.get("UPN"), "User") for m in people]
    if app:
        found.append(_target(None, app, "Application"))
    if team or team_id:
        found.append(_target(team_id, team, "Team"))
    if channel:
        found.append(_target(None, channel, "Channel"))
    return found + [_target(None, role, "Role") for role in _roles(people)]


def _roles(members: list[dict[str, Any]]) -> list[str]:
    """Return the roles that members of a team have after the act."""
    roles = (_TEAM_ROLES.get(str(m.get("Role"))) for m in members)
    return [role for role in dict.fromkeys(roles) if role]


def _protected(policies: Any, file: Any, mail: Any, endpoint: Any) -> list[dict[str, Any]]:
    """Return the file or message that a DLP policy matched, the policies, people and device."""
    if not policies:
        return []
    found, others = [], []
    if isinstance(file, dict):
        found.append(_target(file.get("FilePathUrl"), file.get("FileName"), "File"))
    if isinstance(mail, dict):
        found.append(_target(mail.get("MessageID"), mail.get("Subject"), "Message"))
        others = _correspondents(mail)
    if isinstance(endpoint, dict):
        if path := endpoint.get("FilePath"):
            found.append(_target(path, _last_part(str(path)), "File"))
        if name := endpoint.get("DeviceName"):
            others.append(_target(None, name, "Device"))
    found += [
        _target(p.get("PolicyId"), p.get("PolicyName"), "Policy") for p in values.objects(policies)
    ]
    return found + others


def _correspondents(mail: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the recipients of a message that a DLP policy matched, and its sender."""
    to = [who for key in ("To", "CC", "BCC") for who in _people(mail.get(key))]
    return [
        *(_target(None, who, "User") for who in dict.fromkeys(to)),
        *(_target(None, who, "Sender") for who in _people(mail.get("From"))),
    ]


def _alert(id_: Any, name: Any, about: Any, kind: Any) -> list[dict[str, Any]]:
    if not id_:
        return []
    found = [_target(about, about, kind or "Object")] if about else []
    return [*found, _target(id_, name, "Alert")]


def _directory_targets(
    parts: Any, object_id: Any, properties: Any, operation: Any, extended: Any
) -> list[dict[str, Any]]:
    found = _directory_object(parts, object_id)
    if extended and isinstance(operation, str) and "nvite" in operation:
        details = _object_in(_named(extended, "additionalDetails"))
        if invited := details.get("InvitedUserEmailAddress"):
            found.append(_target(None, invited, "User"))
    if changed := microsoft.changes(properties, "Name", "NewValue", "OldValue"):
        microsoft.name_by_changes(found, changed)
    return found or _object(object_id)


def _object(object_id: Any) -> list[dict[str, Any]]:
    if not isinstance(object_id, str) or not object_id:
        return []
    return [_target(object_id, _last_part(object_id), "Object")]


def _last_part(path: str) -> str:
    """Return the last part of a URL or path, which is the name people use."""
    return path.replace("\\", "/").rstrip("/.").rpartition("/")[2] or path


_WHO_GETS_ACCESS = {
    # Parameter of a cmdlet -> the type of what it names.
    "User": "User",
    "Trustee": "User",
    "Delegate": "User",
    "GrantSendOnBehalfTo": "User",
    "Member": "User",
    "Members": "User",
    "Links": "User",
    "ManagedBy": "User",
    "Owner": "User",
    "SecurityGroup": "Group",
    "Role": "Role",
    "Roles": "Role",
    "ForwardTo": "Address",
    "ForwardAsAttachmentTo": "Address",
    "ForwardingAddress": "Address",
    "ForwardingSmtpAddress": "Address",
    "RedirectTo": "Address",
    "RedirectMessageTo": "Address",
    "BlindCopyTo": "Address",
    "CopyTo": "Address",
    "AddToRecipients": "Address",
    "ResourceDelegates": "User",
    "ModerateMessageByUser": "Address",
    "JournalEmailAddress": "Address",
    "ExternalEmailAddress": "Address",
    "RedirectToRecipients": "Address",
    "AccessRights": "Permission",
}
_PARAMETER = re.compile(r"""-(\w+)[ :]+("[^"]*"|'[^']*'|[^\s-]\S*)""")
_ADDRESSES = re.compile(r"[\w.+'-]+@[\w-]+(?:\.[\w-]+)+")
_SHOWN = re.compile(r"[\[<](?:smtp:)?([^\s\[\]<>]+@[^\s\[\]<>]+)[\]>]$", re.IGNORECASE)
_CONCERNS_OTHERS = re.compile("action|delegate|member|recipient|forward|redirect", re.IGNORECASE)
_ATTACHED = re.compile(r"\s*([^;]+?)\s*\(\d+b\)(?:;|$)")
_ADDRESS_IN = ("Address", "EmailAddress", "RecipientEmail", "MemberEmail", "UPN", "Upn")
_IN_ENTITIES = (
    # Field of an entity of an investigation -> the type of the people that it names.
    ("Recipient", "User"),
    ("MailboxPrimaryAddress", "User"),
    ("Upn", "User"),
    ("Sender", "Sender"),
)
_GROUP = re.compile(r"<(?:Group|Added to group)>([^<]+)</")
_LEVEL = re.compile(r"<Permissions? granted>([^<]+)</")


def _granted(parameters: Any, properties: Any, data: Any, *reached: Any) -> list[dict[str, Any]]:
    """Return who gets access, which rights, and where mail is forwarded to."""
    found = []
    if any(reached):
        found = [_target(None, who, "User") for given in reached for who in _people(given)]
    for name, value in _parameters(parameters):
        if kind := _WHO_GETS_ACCESS.get(name):
            found += [_target(None, one, kind) for one in _several(value)]
    for rule in values.objects(properties):
        if _CONCERNS_OTHERS.search(str(rule.get("Name"))):
            forwarded = _ADDRESSES.findall(str(rule.get("Value")))
            found += [_target(None, address, "Address") for address in forwarded]
    if isinstance(data, str):
        found += [_target(None, group, "Group") for group in _GROUP.findall(data)]
        found += [_target(None, level, "Permission") for level in _LEVEL.findall(data)]
    return found


def _parameters(given: Any) -> list[tuple[str, Any]]:
    if not given:
        return []
    if isinstance(given, str):
        return [(name, value.strip("\"'")) for name, value in _PARAMETER.findall(given)]
    return [(str(one.get("Name")), one.get("Value")) for one in values.objects(given)]


def _several(value: Any) -> list[str]:
    """Return the parts of a text such as `smtp:ann@contoso.example;bob@contoso.example`."""
    parts = value if isinstance(value, list) else re.split("[;,]", str(value or ""))
    stripped = (_bare(str(part).strip()) for part in parts if part)
    return [part for part in stripped if part not in ("", "$null", "False", "True")]


def _bare(who: str) -> str:
    """Return the address in `"Ann Lee" [SMTP:ann@contoso.example]` or `smtp:ann@...`."""
    if found := _SHOWN.search(who):
        return found[1]
    return who[5:] if who[:5].lower() == "smtp:" else who


def _assisted(event: Any, agent_id: Any, agent: Any) -> list[dict[str, Any]]:
    """Return the files that an assistant read, and the agent that acted for the user."""
    found: list[dict[str, Any]] = []
    if isinstance(event, dict):
        for item in values.objects(event.get("AccessedResources")):
            url = item.get("SiteUrl") or item.get("Url") or item.get("ID") or item.get("Id")
            found.append(_target(url, item.get("Name") or _last_part(str(url or "")), "File"))
        for item in values.objects(event.get("Contexts")):
            url = item.get("Id") or item.get("ID")
            found.append(_target(url, item.get("Name") or _last_part(str(url or "")), "File"))
    return [*found, _target(agent_id, agent, "Agent")] if agent_id or agent else found


class _Clues(NamedTuple):
    """The fields in which security products name the subject of a finding."""

    alert: Any
    investigation: Any
    url: Any
    file: Any
    attachments: Any
    message_id: Any
    subject: Any
    recipients: Any
    sender: Any
    modified_by: Any
    restricted: Any
    exchange: Any
    actions: Any
    data: dict[str, Any]


def _together(*clues: Any) -> _Clues | None:
    return _Clues(*clues) if any(clues) else None


def _finding(object_id: Any, clues: _Clues) -> list[dict[str, Any]]:
    """Return the subject of a finding: alert or investigation, files, links, mail and people."""
    found = []
    if clues.investigation:
        found.append(_target(object_id, clues.investigation, "Investigation"))
    elif clues.alert:
        found.append(_target(object_id, clues.alert, "Alert"))
    mail = clues.exchange if isinstance(clues.exchange, dict) else {}
    if isinstance(clues.file, dict):
        found.append(_target(clues.file.get("FilePath"), clues.file.get("FileName"), "File"))
    found += [_target(url, url, "Url") for url in _texts(clues.url)]
    message_id = clues.message_id or mail.get("InternetMessageId")
    if subject := clues.subject or mail.get("Subject") or message_id:
        found.append(_target(message_id or object_id, subject, "Message"))
    found += _attached(clues.attachments) + _attached(mail.get("AttachmentData"))
    found += _involved(clues, mail)
    for entity in _entities(clues.data.get("Entities"), clues.actions):
        found += _entity(entity)
    return _distinct(found)


def _attached(files: Any) -> list[dict[str, Any]]:
    return [
        _target(None, file.get("FileName") or file.get("Name"), "File")
        for file in values.objects(files)
    ]


def _involved(clues: _Clues, mail: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the recipients and other people concerned, then the senders."""
    data = clues.data
    concerned = (clues.recipients, mail.get("Recipients"), clues.modified_by, clues.restricted)
    about = data.get("eid") if data.get("etype") == "User" else None
    people = [*concerned, data.get("trc"), data.get("f3u"), data.get("suid"), about]
    senders = (clues.sender, mail.get("From"), data.get("tsd"))
    return [_target(None, who, "User") for given in people for who in _people(given)] + [
        _target(None, who, "Sender") for given in senders for who in _people(given)
    ]


def _entities(listed: Any, actions: Any) -> Iterator[dict[str, Any]]:
    """Yield the entities of an investigation, in its `Data` and in the JSON text of its actions."""
    lists = [listed]
    if isinstance(actions, list):
        lists += [_object_in(action).get("Entities") for action in actions]
    for entities in lists:
        if isinstance(entities, list):
            yield from map(_object_in, entities)


def _entity(entity: dict[str, Any]) -> list[dict[str, Any]]:
    found = [_target(url, url, "Url") for key in ("Url", "Urls") for url in _texts(entity.get(key))]
    if subject := entity.get("Subject"):
        found.append(_target(entity.get("InternetMessageId"), subject, "Message"))
    if entity.get("Type") == "file":
        found.append(_target(None, entity.get("Name"), "File"))
    found += _attached(entity.get("Files"))
    for key, kind in _IN_ENTITIES:
        found += [_target(None, who, kind) for who in _people(entity.get(key))]
    return found


def _texts(value: Any) -> list[str]:
    parts = value if isinstance(value, list) else [value]
    return [part for part in parts if isinstance(part, str) and part]


def _distinct(targets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the targets without repetitions of a type and name."""
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    for target in targets:
        kept.setdefault((str(target["type"]), str(target["name"] or target["id"])), target)
    return list(kept.values())


def _people(value: Any) -> list[str]:
    """Return the addresses in a text or a list; an element may be an object that contains one."""
    if not value:
        return []
    parts = value if isinstance(value, list) else [value]
    texts = (values.first(*map(part.get, _ADDRESS_IN)) if isinstance(part, dict) else part
             for part in parts)  # fmt: skip
    return [who for text in texts if isinstance(text, str) for who in _addresses_in(text)]


@lru_cache(maxsize=65536)
def _addresses_in(text: str) -> tuple[str, ...]:
    return tuple(who for who in _several(text) if _is_address(who))


def _all_targets(  # noqa: PLR0917 one per service or kind of event
    object_id: Any,
    record_type: Any,
    protected: list[dict[str, Any]],
    alert: list[dict[str, Any]],
    file: list[dict[str, Any]],
    mail: list[dict[str, Any]],
    team: list[dict[str, Any]],
    clues: _Clues | None,
    granted: list[dict[str, Any]],
    assisted: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Return the targets; each service that writes records has columns of its own for them."""
    own = protected or alert or file or mail or team
    if protected and protected[0]["type"] == "Policy":
        own = [*_object(object_id), *protected]
    finding = _finding(object_id, clues) if clues and _is_finding(record_type) else []
    if not own and not finding and not assisted:
        own = _object(object_id)
    return [*own, *finding, *granted, *assisted] if finding or granted or assisted else own


def _classified_as(operation: Any, record_type: Any, members: Any) -> Any:
    """Return the operation of a finding, or with the new role, where its name is too vague."""
    if _is_finding(record_type):
        return f"finding {operation}"
    if operation == "MemberRoleChanged":
        return " ".join([operation, *_roles(values.objects(members))])
    return None


_DATA = Field(_object_in, "Data")
_COLUMNS: Columns = {
    "action": "Operation",
    "actor_id": Field(_actor_id, "UserKey", "Actor", "RecordType", "UserId"),
    "actor_name": Field(_actor_name, "LogonUserDisplayName", "UserId", "Actor"),
    "actor_email": Field(_email, "UserId"),
    "actor_type": Field(_actor_type, "UserType", "UserId", "RecordType"),
    "outcome": Field(_outcome, "Operation", "ResultStatus", "ErrorNumber", "ErrorCode"),
    "outcome_reason": Field(_reason, "LogonError", "ErrorNumber", "ErrorCode"),
    "source_ip": Field(
        _address,
        "ClientIPAddress",
        "ClientIP",
        "ActorIpAddress",
        "UserIp",
        "ClientIpAddress",
        "ClientIPs",
        "SenderIp|SenderIP",
        Field(_sender_address, _DATA),
    ),
    "user_agent": Field(_agent, "UserAgent", "ExtendedProperties", "ClientInfoString"),
    "severity": Field(_severity, "Severity", "AlertSeverity", "PolicyDetails", _DATA),
    "session_id": Field(_session, "AppAccessContext", "DeviceProperties", "SessionId"),
}
_DIRECTORY: Columns = {
    **_COLUMNS,
    "targets": Field(
        _directory_targets,
        "Target",
        "ObjectId",
        "ModifiedProperties",
        "Operation",
        "ExtendedProperties",
    ),
    "correlation_id": "InterSystemsId",
}
_SERVICES: Columns = {
    **_COLUMNS,
    "targets": Field(
        _all_targets,
        "ObjectId",
        "RecordType",
        Field(
            _protected,
            "PolicyDetails",
            "SharePointMetaData",
            "ExchangeMetaData",
            "EndpointMetaData|EndpointMetadata",
        ),
        Field(_alert, "AlertId", "Name", "AlertEntityId", "EntityType"),
        Field(
            _file,
            "SourceFileName",
            "ItemType",
            "ObjectId",
            "TargetUserOrGroupName",
            "TargetUserOrGroupType",
        ),
        Field(_mail, "MailboxOwnerUPN", "Item", "AffectedItems"),
        Field(_team, "Members", "AddOnName", "TeamGuid", "TeamName", "ChannelName"),
        Field(
            _together,
            "AlertDisplayName",
            "InvestigationName",
            "Url|URL",
            "FileData",
            "AttachmentData",
            "InternetMessageId",
            "Subject",
            "Recipients",
            "P2Sender|P1Sender",
            "LastModifiedBy",
            "EventValue",
            "ExchangeDetails",
            "Actions",
            _DATA,
        ),
        Field(
            _granted,
            "Parameters",
            "OperationProperties",
            "EventData",
            "SharingInformation",
            "MembershipInformation",
            "ReleaseTo|RecipientUPN",
        ),
        Field(_assisted, "CopilotEventData", "AgentId", "AgentName"),
    ),
    "correlation_id": "CorrelationId",
}
_FEEDS: dict[str, tuple[str, Columns]] = {
    "azure_active_directory": ("Audit.AzureActiveDirectory", _DIRECTORY),
    "exchange": ("Audit.Exchange", _SERVICES),
    "sharepoint": ("Audit.SharePoint", _SERVICES),
    "general": ("Audit.General", _SERVICES),
    "dlp": ("DLP.All", _SERVICES),
}


def _identity(id_: Any, number: Any) -> Any:
    """Return the record's Id, with the part's number if it was split because of its size."""
    return id_ if number is None or not id_ else f"{id_}#{number}"


def _incident(id_: Any, operation: Any) -> Any:
    """Return the Id with the operation, because a DLP match and its undo share an Id."""
    return f"{id_}/{operation}" if id_ else None


@cache
def _streams(tenant_id: str, publisher_id: str) -> tuple[Stream, ...]:
    return tuple(
        Stream(
            name=name,
            begin=begin,
            pages=partial(
                _pages,
                _Feed(tenant_id=tenant_id, publisher_id=publisher_id, content_type=content_type),
            ),
            between=between,
            reached=lambda cursor: windows.reached(json.loads(cursor)["at"]),
            id=Field(_incident, "Id", "Operation")
            if name == "dlp"
            else Field(_identity, "Id", "RecordNumber"),
            time="CreationTime",
            columns=columns,
            classified_as=Field(_classified_as, "Operation", "RecordType", "Members"),
            target_rank=_RANK,
            keeps=_KEEPS,
            lag=timedelta(days=1),
        )
        for name, (content_type, columns) in _FEEDS.items()
    )


def _configured(settings: Settings | None) -> Sequence[Stream]:
    return _streams(settings.tenant_id, settings.publisher_id) if settings else _streams("", "")


_ADVICE = {
    "AF10001": "grant the app ActivityFeed.Read of Office 365 Management APIs, and give admin "
    "consent; for dlp also ActivityFeed.ReadDlp",
    "AF20010": "the token belongs to another tenant: check tenant_id and authority_url",
    "AF20011": "tenant_id does not exist in this cloud: check tenant_id and base_url",
    "AF20012": "the tenant is not set up: enable unified auditing",
    "AF20013": "tenant_id must be the directory's GUID, not a domain",
    "AF20021": "the service could not reach the receiver: check that webhooks.public_url is the "
    "https address of a running `auditlake receive`",
    "AF20022": "there is no subscription yet: a poll starts it; if it was just started, the first "
    "content may take 12 hours",
    "AF20023": "an administrator has disabled the subscription: enable it again",
    "AF20030": "the window was refused: check this machine's clock",
    "AF20055": "the window was refused: check this machine's clock",
}


def _advice(response: httpx.Response) -> str | None:
    if known := _ADVICE.get(_code(response.content)):
        return known
    if b"does not exist" in response.content:
        return "unified auditing is off: enable it in Microsoft Purview and wait an hour"
    match response.status_code:
        case 401:
            return (
                "the API does not accept the token: base_url and authority_url must belong to the "
                "same cloud"
            )
        case 403:
            return _ADVICE["AF10001"]
        case 404:
            return "Management Activity API not found there: correct base_url"
    return None


_NAMES = {content_type: name for name, (content_type, _) in _FEEDS.items()}


def _authentic(headers: Headers, secret: str) -> bool:
    return webhook_auth.same(headers.get("webhook-authid", ""), secret)


def _notified(settings: Settings, delivery: Delivery) -> list[Reference]:
    """Return the content that has become available; none if the service validates the address."""
    if "webhook-validationcode" in delivery.headers:
        return []
    items = [(item, json_records.load(item)) for item in json_records.split_array(delivery.body)]
    return [
        Reference(stream=_NAMES[str(content["contentType"])], item=item)
        for item, content in items
        if isinstance(content, dict)
        and str(content.get("tenantId")).lower() == settings.tenant_id.lower()
        and str(content.get("contentType")) in _NAMES
    ]


def _content(settings: Settings, client: httpx.Client, item: bytes) -> Page:
    """Fetch a blob named in a notification; `_blob` refuses an address on another host."""
    feed = _feed(settings, str(json_records.load(item).get("contentType")))
    got = _fetch(feed, client, _blob(client, item))
    match got:
        case AuditlakeError():
            raise got
        case Gap():  # the poll that lists it records the gap
            return Page(records=(), cursor="")
    return Page(records=got, cursor="")


def _feed(settings: Settings, content_type: str) -> _Feed:
    return _Feed(
        tenant_id=settings.tenant_id,
        publisher_id=settings.publisher_id,
        content_type=content_type,
    )


def _register(
    settings: Settings, client: httpx.Client, endpoint: Endpoint, known: Subscriptions, _: datetime
) -> Subscriptions:
    """Start the subscriptions again with a webhook, which the service validates at once."""
    webhook = {"address": endpoint.address, "authId": endpoint.secret.get_secret_value()}
    for stream in endpoint.streams:
        _set_webhook(settings, client, stream, {"webhook": webhook})
    return _subscriptions(settings, client, endpoint, known)


def _set_webhook(
    settings: Settings, client: httpx.Client, stream: str, body: dict[str, Any] | None
) -> None:
    """Start a subscription with a webhook, or without one; no change counts as success."""
    try:
        client.post(_feed(settings, _FEEDS[stream][0]).url("start"), json=body)
    except Refused as error:
        if _code(error.body) != "AF20024":
            raise


def _subscriptions(
    settings: Settings, client: httpx.Client, endpoint: Endpoint, _: Subscriptions
) -> Subscriptions:
    root = f"/api/v1.0/{settings.tenant_id}/activity/feed/subscriptions/list"
    found = answers.objects(client.get(f"{root}?PublisherIdentifier={settings.publisher_id}"))
    return [
        Subscription(
            stream=_NAMES[each["contentType"]],
            id=each["contentType"],
            active=(webhook.get("status") or "").lower() == "enabled",
            expires=_expiration(webhook.get("expiration")),
            note=str(webhook.get("status")),
        )
        for each in found
        if each.get("contentType") in _NAMES
        and (webhook := each.get("webhook"))
        and webhook.get("address") == endpoint.address
    ]


def _expiration(text: Any) -> datetime | None:
    if not text:
        return None
    time = datetime.fromisoformat(text)
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _remove(
    settings: Settings, client: httpx.Client, endpoint: Endpoint, known: Subscriptions
) -> None:
    """Start the subscriptions again without a webhook; polling still needs them."""
    for each in _subscriptions(settings, client, endpoint, known):
        _set_webhook(settings, client, each.stream, None)


PUSH = Push(
    authentic=_authentic,
    read=_notified,
    keeps=("webhook-validationcode",),
    fetch=_content,
    subscription_api=SubscriptionApi(register=_register, current=_subscriptions, remove=_remove),
)


def _changes(request: httpx.Request) -> str | None:
    """Return the name of a request that starts a subscription, with or without a webhook."""
    if request.method == "POST" and request.url.path.endswith("/subscriptions/start"):
        return f"the start of {request.url.params.get('contentType')}"
    return None


def _throttled(response: httpx.Response) -> bool:
    """Return whether the request was throttled: a 429, or a 403 with code AF429."""
    return response.status_code == 429 or (
        response.status_code == 403 and _code(response.content) == "AF429"
    )


def _endings(settings: Settings, _: httpx.Client) -> list[Ending]:
    """Return the end of the certificate; this API does not report that of a client secret."""
    if settings.certificate is None:
        return []
    return endings.of_certificate(settings.certificate, microsoft.NEW_CREDENTIAL)


INTEGRATION = Integration(
    kind="office_365",
    title="Office 365",
    settings=Settings,
    streams=_configured,
    auth=microsoft.sign_in,
    request_policy=RequestPolicy(
        rate=(2000, 60.0),
        is_throttled=_throttled,
        first_delay=30.0,
        # A rule of the service since August 2025.
        changes=_changes,
        changes_every=15 * 60.0,
    ),
    advice=_advice,
    mapping_version=5,
    tenant=microsoft.tenant,
    reported_endings=_endings,
    nothing=_NOTHING,
    docs=Docs(
        credentials="app registration with a client secret, or a certificate with its private key",
        permissions=(
            "`ActivityFeed.Read` (and `ActivityFeed.ReadDlp`) of Office 365 Management APIs, "
            "admin consent; unified auditing switched on"
        ),
        history="7 days from when content became available, none before the subscription",
        delay="an hour or two, 12 hours after the first start; rarely days",
        push="webhooks (slower than polling)",
    ),
    push=PUSH,
)
