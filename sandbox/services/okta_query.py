"""The parameters of Okta's `GET /api/v1/logs`, checked as Okta checks them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starlette.datastructures import QueryParams

from sandbox import scim
from sandbox.service import decoded
from sandbox.services.okta_refusals import Refusal

_FURTHEST = timedelta(days=180)
_DEFAULT_SPAN = timedelta(days=7)
_NOT_SEARCHABLE = ("debugContext.debugData.url", "debugContext.debugData.requestUri")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A parsed query."""

    since: datetime
    until: datetime | None
    after: str | None
    limit: int
    descending: bool
    keep: Callable[[bytes], bool] | None

    @property
    def polling(self) -> bool:
        return self.until is None and not self.descending


def read(params: QueryParams, now: datetime) -> Query:
    """Parse and check the query parameters. Raises Refusal."""
    until = _time(params, "until")
    since = _time(params, "since") or (until or now) - _DEFAULT_SPAN
    if since < now - _FURTHEST:
        raise Refusal(
            400,
            "E0000053",
            "Invalid parameter: The since parameter is over 180 days prior to the current day.",
        )
    order = params.get("sortOrder", "ASCENDING")
    if order not in ("ASCENDING", "DESCENDING"):
        raise invalid("sortOrder", "must be ASCENDING or DESCENDING.")
    return Query(
        since=since,
        until=until,
        after=params.get("after"),
        limit=_limit(params.get("limit", "100")),
        descending=order == "DESCENDING",
        keep=_keep(params.get("filter", ""), params.get("q", "")),
    )


def _time(params: QueryParams, name: str) -> datetime | None:
    if name not in params:
        return None
    try:
        time = datetime.fromisoformat(params[name])
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise invalid(name, "must be a valid date-time or empty.") from None


def _limit(text: str) -> int:
    if not text.isdecimal() or int(text) > 1000:
        raise invalid("limit", "must be an integer between 0 and 1000.")
    return int(text)


def invalid(name: str, cause: str) -> Refusal:
    summary = f"Api validation failed: '{name}': {cause}"
    return Refusal(400, "E0000001", summary, causes=[f"{name}: {cause}"])


def _keep(expression: str, text: str) -> Callable[[bytes], bool] | None:
    """Return a predicate for `filter` and `q`, or None without either. Raises Refusal."""
    words = text.lower().split()
    if len(words) > 10 or any(len(word) > 40 for word in words):
        raise invalid("q", "must be at most 10 keywords of at most 40 characters.")
    passes = _filter(expression) if expression else None
    if not words and passes is None:
        return None

    def keep(raw: bytes) -> bool:
        lowered = raw.decode().lower() if words else ""
        return all(word in lowered for word in words) and (passes is None or passes(decoded(raw)))

    return keep


def _filter(expression: str) -> scim.Predicate:
    try:
        predicate, comparisons = scim.parse(expression)
    except scim.Malformed as error:
        raise Refusal(400, "E0000053", f"Invalid filter '{expression}': {error}") from None
    for used in comparisons:
        if used.attribute == "published":
            raise Refusal(
                400, "E0000053", f"Invalid filter '{expression}': published is not supported"
            )
        if used.operator == "co" and used.attribute in _NOT_SEARCHABLE:
            raise Refusal(
                400,
                "E0000031",
                "The supplied combination of operator and field is not currently supported. "
                f"Operator: co, Field: {used.attribute}",
            )
    return predicate
