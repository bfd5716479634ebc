"""Random searches with a second, naive meaning, and random events to apply them to.

Nothing here uses the parser or Polars: a search is drawn as its text and a plain Python function.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from tests.dashboard.small_lakes import blank

Row = dict[str, Any]
Holds = Callable[[Row], bool]

START = datetime(2026, 11, 16, tzinfo=UTC)
PEOPLE = ("ada@x.example", "Ada", "GRACE Hopper", "Élodie", "ad*min", "a,b", "", None)
TEXTS = ("user signed in", "File (draft) downloaded", 'a "quoted" \\ name', "and or not", "", None)
ACTIONS = ("user.session.start", "user.session.end", "download", None)
ADDRESSES = ("203.0.113.67", "203.0.113.200", "203.0.114.1", "2001:db8::1", "2001:db9::", "", None)
IDS = ("arn:aws:iam::1:role/x", "https://evil.example/a?b=c", "dGVzdA==", None)
WORDS = (
    *(
        "ada",
        "ADA",
        "grace",
        "user",
        "sign",
        "session.start",
        "a*a",
        "us*in",
        "*",
        "élodie",
        "load",
    ),
    *("203.0.113", "2001:db8::1", "arn:aws:iam::1:role/x", "https://evil.example/a", "dGVzdA=="),
    *("x.example", "vault", "-", "a,b", "none", "android", "order", "--x", "<a>"),
)
PHRASES = (
    "signed in",
    "(draft)",
    'a "quoted" \\ name',
    "ad*min",
    "and",
    "or",
    "not",
    "User",
    "a,b",
)
VALUES = ("ada", "Ada", "ada@x.example", "a*", "*p*", "*", "download", "user.*", "élodie", "3002")
QUOTED = ("GRACE Hopper", "grace hopper", "", "ad*min", "a,b", "user signed in")
FIELDS = {
    "actor": ("actor_email", "actor_name", "actor_id"),
    "USER": ("actor_email", "actor_name", "actor_id"),
    "target": ("target_name", "target_id"),
    "action": ("action",),
    "Message": ("message",),
    "email": ("actor_email",),
    "class_uid": ("class_uid",),
}
NETWORKS = (
    "203.0.113.0/24",
    "203.0.113.64/26",
    "203.0.113.67",
    "2001:db8::/31",
    "0.0.0.0/0",
    "::/0",
)
SEARCHED = (
    *("message", "action", "activity_type", "action_type", "actor_email", "actor_name", "actor_id"),
    *("target_name", "target_id", "source_ip", "user_agent", "outcome_reason", "integration"),
    *("event_id", "session_id", "correlation_id"),
)


@dataclass(frozen=True)
class Drawn:
    """A search: its text, its meaning, and how loosely its parts hold together."""

    text: str
    holds: Holds
    loose: int = 0  # 0: an atom, 1: NOT, 2: AND, 3: OR

    def within(self, most: int) -> str:
        return self.text if self.loose <= most else f"({self.text})"


def rows(seed: int, count: int = 40) -> list[Row]:
    dice = random.Random(seed)
    return [blank() | _row(dice) for _ in range(count)]


def _row(dice: random.Random) -> Row:
    names = [dice.choice([*PEOPLE, "Vault"]) for _ in range(dice.randrange(3))]
    return {
        "time": START + timedelta(hours=dice.randrange(96)),
        "actor_email": dice.choice(PEOPLE),
        "actor_name": dice.choice(PEOPLE),
        "actor_id": dice.choice(IDS),
        "target_name": dice.choice([*PEOPLE, "Vault"]),
        "targets": [{"id": "1", "name": name, "type": "t"} for name in names],
        "action": dice.choice(ACTIONS),
        "message": dice.choice(TEXTS),
        "source_ip": dice.choice(ADDRESSES),
        "session_id": dice.choice(IDS),
        "class_uid": dice.choice([3002, None]),
    }


def matches(pattern: str, text: str, *, whole: bool) -> bool:
    """Return True if `text` has the pattern, where * is any text; the case is ignored."""
    first, *others = pattern.lower().split("*")
    text = text.lower()
    if not others:
        return text == first if whole else first in text
    place = text.find(first)
    if place < 0 or (whole and place):
        return False
    place += len(first)
    for part in others[:-1]:
        place = text.find(part, place)
        if place < 0:
            return False
        place += len(part)
    rest = text[place:]
    return rest.endswith(others[-1]) if whole else others[-1] in rest


def has(pattern: str, *, wild: bool) -> Holds:
    def holds(row: Row) -> bool:
        texts = [row[name] for name in SEARCHED] + [one["name"] for one in row["targets"] or ()]
        found = [text for text in texts if text is not None]
        if wild:
            return any(matches(pattern, text, whole=False) for text in found)
        return any(pattern.lower() in text.lower() for text in found)

    return holds


def is_value(columns: tuple[str, ...], value: str, *, wild: bool, exact: bool = False) -> Holds:
    def is_(found: str) -> bool:
        if exact:
            return found == value
        if not wild:
            return found.lower() == value.lower()
        return value == "*" or matches(value, found, whole=True)

    def holds(row: Row) -> bool:
        found = [str(row[name]) for name in columns if row[name] not in (None, "")][:1]
        if value == "":
            return not found
        if "target_name" in columns:
            found += [one["name"] or one["id"] for one in row["targets"] or ()]
        return any(map(is_, found))

    return holds


def inside(network: str) -> Holds:
    def holds(row: Row) -> bool:
        if not row["source_ip"]:
            return False
        return ipaddress.ip_address(row["source_ip"]) in ipaddress.ip_network(network)

    return holds


def quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def any_of(parts: list[Holds]) -> Holds:
    return lambda row: any(part(row) for part in parts)


def all_of(parts: list[Holds]) -> Holds:
    return lambda row: all(part(row) for part in parts)


def none_of(part: Holds) -> Holds:
    return lambda row: not part(row)


@st.composite
def cased(draw: st.DrawFn, word: str) -> str:
    return draw(st.sampled_from([word, word.lower(), word.capitalize()]))


words = st.sampled_from(WORDS).map(lambda text: Drawn(text, has(text, wild=True))).filter(
    lambda one: not one.text.startswith("--")
) | st.just(Drawn("--x", none_of(has("-x", wild=False)), 1))
phrases = st.sampled_from(PHRASES).map(lambda text: Drawn(quote(text), has(text, wild=False)))
defanged = st.sampled_from(["203[.]0[.]113[.]67", "203(.)0{.}113[dot]67"]).map(
    lambda text: Drawn(text, has("203.0.113.67", wild=False))
)
urls = st.just(Drawn("hxxps://evil[.]example/a", has("https://evil.example/a", wild=False)))
values = st.sampled_from(VALUES).map(lambda text: (text, text, True)) | st.sampled_from(QUOTED).map(
    lambda text: (quote(text), text, False)
)


@st.composite
def fielded(draw: st.DrawFn) -> Drawn:
    name = draw(st.sampled_from(sorted(FIELDS)))
    chosen = draw(st.lists(values, min_size=1, max_size=3))
    texts = [text for text, _, _ in chosen]
    holds = any_of([is_value(FIELDS[name], value, wild=wild) for _, value, wild in chosen])
    listed = draw(
        st.sampled_from([",".join(texts), f"({', '.join(texts)})", f"( {' '.join(texts)} )"])
        | cased("OR").map(lambda word: f"({f' {word} '.join(texts)})")
    )
    return Drawn(f"{name}:{draw(st.sampled_from(['', ' ']))}{listed}", holds)


@st.composite
def exact(draw: st.DrawFn) -> Drawn:
    name = draw(st.sampled_from(sorted(FIELDS)))
    text, value, _ = draw(values)
    sign = draw(st.sampled_from(["=", " = ", "= "]))
    return Drawn(f"{name}{sign}{text}", is_value(FIELDS[name], value, wild=False, exact=True))


networks = st.lists(st.sampled_from(NETWORKS), min_size=1, max_size=3).map(
    lambda given: Drawn(f"ip:({', '.join(given)})", any_of([inside(one) for one in given]))
)


@st.composite
def compared(draw: st.DrawFn) -> Drawn:
    moment = START + timedelta(hours=draw(st.integers(0, 96)))
    form = draw(st.sampled_from(["%Y-%m-%dT%H:%MZ", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S+00:00"]))
    sign, test = draw(
        st.sampled_from(
            [
                ("<", lambda row: row["time"] < moment),
                ("<=", lambda row: row["time"] <= moment),
                (">", lambda row: row["time"] > moment),
                (">=", lambda row: row["time"] >= moment),
            ]
        )
    )
    return Drawn(f"time{sign}{moment:{form}}", test)


single = words.filter(lambda one: not one.loose and not set(",-") & set(one.text)) | phrases
several = st.lists(single | defanged, min_size=2, max_size=3)


def listed(parts: list[Drawn], between: str) -> Drawn:
    return Drawn(between.join(part.text for part in parts), any_of([one.holds for one in parts]), 4)


lists = several.map(lambda parts: Drawn(f"({listed(parts, ', ').text})", listed(parts, "").holds))
pasted = st.builds(listed, several, st.sampled_from([", ", "\n", ",\n", "\r\n\n", " , "]))
atoms = words | phrases | defanged | urls | fielded() | exact() | networks | compared() | lists


@st.composite
def negated(draw: st.DrawFn, part: st.SearchStrategy[Drawn]) -> Drawn:
    inner = draw(part)
    if draw(st.booleans()) and not inner.text.startswith("-"):
        return Drawn(f"-{inner.within(0)}", none_of(inner.holds), 1)
    return Drawn(f"{draw(cased('NOT'))} {inner.within(1)}", none_of(inner.holds), 1)


@st.composite
def joined(draw: st.DrawFn, part: st.SearchStrategy[Drawn]) -> Drawn:
    parts = draw(st.lists(part, min_size=2, max_size=3))
    if draw(st.booleans()):
        text = f" {draw(cased('OR'))} ".join(one.within(2) for one in parts)
        return Drawn(text, any_of([one.holds for one in parts]), 3)
    sign = draw(st.sampled_from([" ", "  ", "\t", " AND ", " and "]))
    return Drawn(sign.join(one.within(1) for one in parts), all_of([one.holds for one in parts]), 2)


searches = st.recursive(atoms, lambda part: negated(part) | joined(part), max_leaves=8) | pasted
