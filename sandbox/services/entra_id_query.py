"""Graph's reports and the query options they take: $filter, $top and $orderby."""

from __future__ import annotations

import operator as operators
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request

from sandbox.service import at, decoded
from sandbox.services.entra_id_refusals import Refusal

KEEPS = timedelta(days=30)
RISKS_KEEP = timedelta(days=90)
SIGN_INS = {
    "interactiveUser": "sign_ins",
    "nonInteractiveUser": "non_interactive_sign_ins",
    "servicePrincipal": "service_principal_sign_ins",
    "managedIdentity": "managed_identity_sign_ins",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One of the three collections below /auditLogs, or the one below /identityProtection."""

    name: str
    time: str
    role: str = "AuditLog.Read.All"
    size: int = 1000
    most: int = 1000
    root: str = "auditLogs"
    log: str = ""
    """The stream it shows; sign-ins are of several."""
    also_time: str = ""
    """Another time that can be compared."""


REPORTS = {
    "signins": Report(name="signIns", time="createdDateTime"),
    "directoryaudits": Report(
        name="directoryAudits", time="activityDateTime", log="directory_audits"
    ),
    "provisioning": Report(
        name="provisioning",
        time="activityDateTime",
        role="ProvisioningLog.Read.All",
        size=200,
        log="provisioning",
    ),
    "riskdetections": Report(
        name="riskDetections",
        time="detectedDateTime",
        role="IdentityRiskEvent.Read.All",
        size=20,
        most=500,
        root="identityProtection",
        log="risk_detections",
        also_time="lastUpdatedDateTime",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A parsed query."""

    since: datetime
    until: datetime
    count: int
    descending: bool
    streams: tuple[str, ...]
    passes: tuple[Callable[[Any], bool], ...]

    def keep(self, raw: bytes) -> bool:
        value = decoded(raw)
        return all(passes(value) for passes in self.passes)


def read(request: Request, report: Report, now: datetime) -> Query:
    """Parse the query options of a request. Raises Refusal."""
    params = request.query_params
    if unknown := [n for n in params if n not in ("$filter", "$top", "$orderby", "$skiptoken")]:
        raise invalid(f"Query option '{unknown[0]}' is not allowed.")
    bounds, kinds, passes = _filter(params.get("$filter", ""), report, request)
    streams = tuple(SIGN_INS[kind] for kind in kinds or ("interactiveUser",))
    return Query(
        since=max(bounds[0], now - (RISKS_KEEP if report.also_time else KEEPS)),
        until=min(bounds[1], now + timedelta(days=1)),
        count=_count(params.get("$top"), report),
        descending=_descending(params.get("$orderby", f"{report.time} desc"), report),
        streams=streams if report.name == "signIns" else (report.log,),
        passes=tuple(passes),
    )


def _count(top: str | None, report: Report) -> int:
    if top is None:
        return report.size
    if not top.isdecimal() or not 1 <= int(top) <= report.most:
        raise invalid(
            f"Invalid page size specified: '{top}'. Must be between 1 and {report.most} inclusive."
        )
    return int(top)


def _descending(orderby: str, report: Report) -> bool:
    field, _, direction = orderby.partition(" ")
    if field not in (report.time, report.also_time) or direction not in ("", "asc", "desc"):
        raise invalid(f"Invalid orderby clause: {orderby}")
    return direction == "desc"


_ANY = re.compile(r"signInEventTypes/any\(\s*t\s*:\s*(.+)\)", re.DOTALL)
_ONE = re.compile(r"t\s+eq\s+'(\w+)'")
_CLAUSE = re.compile(r"([\w/]+)\s+(eq|ge|le|gt|lt)\s+('(?:[^']|'')*'|[\w:.+-]+)")
_STARTS = re.compile(r"startswith\(\s*([\w/]+)\s*,\s*'((?:[^']|'')*)'\s*\)", re.IGNORECASE)
# Turns the inclusive bounds of Graph into half-open intervals.
_TICK = timedelta(microseconds=1)


def _filter(
    text: str, report: Report, request: Request
) -> tuple[tuple[datetime, datetime], tuple[str, ...], list[Callable[[Any], bool]]]:
    """Return (since, until), sign-in event types and other predicates. Raises Refusal."""
    since, until = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    kinds: tuple[str, ...] = ()
    passes: list[Callable[[Any], bool]] = []
    for clause in _clauses(text):
        if found := _ANY.fullmatch(clause):
            kinds = _event_types(found[1], report, request)
        elif found := _STARTS.fullmatch(clause):
            passes.append(_starting(found[1], _unquoted(found[2])))
        elif not (found := _CLAUSE.fullmatch(clause)):
            raise invalid(f"Invalid filter clause: Syntax error in '{clause}'.")
        elif found[1] == report.time:
            lower, upper = _bounds(found[2], found[3], report)
            since, until = max(since, lower or since), min(until, upper or until)
        elif found[1] == report.also_time:
            passes.append(_compared(found[1], found[2], _moment(found[3])))
        elif found[2] == "eq":
            passes.append(_equal(found[1], _unquoted(found[3].strip("'"))))
        else:
            raise invalid(f"Invalid filter clause: operator {found[2]} is not supported here.")
    return (since, until), kinds, passes


def _clauses(text: str) -> list[str]:
    """Split a conjunction into its clauses; an `and` inside parentheses does not split."""
    parts: list[str] = []
    depth, open_part = 0, ""
    for word in re.split(r"(\s+and\s+)", text.strip()):
        if word.strip() == "and" and depth == 0:
            parts.append(open_part)
            open_part = ""
            continue
        open_part += word
        depth += word.count("(") - word.count(")")
    parts = [part.strip() for part in [*parts, open_part] if part.strip()]
    return [p[1:-1] if p[0] == "(" and p[-1] == ")" else p for p in parts]


def _bounds(operator: str, literal: str, report: Report) -> tuple[datetime | None, datetime | None]:
    """Return the half-open interval that a comparison selects; None means unbounded."""
    # As in Graph, provisioning takes other comparisons than the other reports.
    allowed = ("eq", "gt", "lt") if report.name == "provisioning" else ("eq", "ge", "le")
    if operator not in allowed:
        raise invalid(f"Invalid filter clause: operator {operator} is not supported for the time.")
    time = _moment(literal)
    match operator:
        case "ge":
            return time, None
        case "gt":
            return time + _TICK, None
        case "le":
            return None, time + _TICK
        case "lt":
            return None, time
    return time, time + _TICK


def _moment(literal: str) -> datetime:
    """Return the time that a filter names. Raises Refusal."""
    try:
        time = datetime.fromisoformat(literal)
    except ValueError:
        raise invalid(f"Invalid filter clause: '{literal}' is not a date.") from None
    if time.tzinfo is None:
        raise invalid(f"Invalid filter clause: '{literal}' has no time zone.")
    return time


_COMPARE: dict[str, Callable[[datetime, datetime], bool]] = {
    "eq": operators.eq,
    "ge": operators.ge,
    "le": operators.le,
    "gt": operators.gt,
    "lt": operators.lt,
}


def _compared(path: str, operator: str, wanted: datetime) -> Callable[[Any], bool]:
    pick, compare = at(path), _COMPARE[operator]
    return lambda value: compare(datetime.fromisoformat(str(pick(value))), wanted)


def _event_types(text: str, report: Report, request: Request) -> tuple[str, ...]:
    """Return the sign-in event types of a clause; only beta has them. Raises Refusal."""
    if report.name != "signIns" or request.path_params["version"] != "beta":
        raise invalid("Invalid filter clause: Could not find a property named 'signInEventTypes'.")
    kinds = tuple(_ONE.findall(text))
    if not kinds or any(kind not in SIGN_INS for kind in kinds):
        raise invalid("Invalid filter clause: unknown sign-in event type.")
    return kinds


def _equal(path: str, wanted: str) -> Callable[[Any], bool]:
    pick = at(path.replace("/", "."))
    return lambda value: str(pick(value)) == wanted


def _starting(path: str, wanted: str) -> Callable[[Any], bool]:
    pick = at(path.replace("/", "."))
    return lambda value: str(pick(value) or "").lower().startswith(wanted.lower())


def _unquoted(text: str) -> str:
    return text.replace("''", "'")


def invalid(message: str) -> Refusal:
    return Refusal(400, "BadRequest", message)
