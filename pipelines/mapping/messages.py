"""Messages for events that have none from the vendor: "Ada Lovelace added Bob to group Admins".

If class and activity are specific enough, the message is built from actor and targets, otherwise
from the words of the vendor's name of the event.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import cache, lru_cache

import polars as pl

_ANY, _PERSON, _THING, _ITEM = _KINDS = ("any", "person", "thing", "item")


@dataclass(frozen=True, slots=True)
class _Phrase:
    """The words for an activity: `done` or `undone`, then `object`, then `joint` and `other`."""

    done: str
    undone: str
    object: str | None = _ANY
    joint: str | None = None
    other: str | None = None


_PHRASES = {
    (3001, 1): _Phrase("created", "create"),
    (3001, 2): _Phrase("enabled", "enable"),
    (3001, 3): _Phrase("changed the password of", "change the password of"),
    (3001, 4): _Phrase("reset the password of", "reset the password of"),
    (3001, 5): _Phrase("disabled", "disable"),
    (3001, 6): _Phrase("deleted", "delete"),
    (3001, 9): _Phrase("locked", "lock"),
    (3001, 10): _Phrase("added a second factor to", "add a second factor to"),
    (3001, 11): _Phrase("removed a second factor from", "remove a second factor from"),
    (3001, 12): _Phrase("unlocked", "unlock"),
    (3002, 1): _Phrase("signed in", "sign in", None, " to ", _THING),
    (3002, 2): _Phrase("signed out", "sign out", None, " ", _PERSON),
    (3002, 7): _Phrase("switched to", "switch to"),
    (3005, 1): _Phrase("assigned", "assign", _PERSON, " to ", _THING),
    (3005, 2): _Phrase("removed", "remove", _PERSON, " from ", _THING),
    (3006, 3): _Phrase("added", "add", _PERSON, " to ", _THING),
    (3006, 4): _Phrase("removed", "remove", _PERSON, " from ", _THING),
    (3006, 5): _Phrase("deleted", "delete", _THING),
    (3006, 6): _Phrase("created", "create", _THING),
    (6002, 1): _Phrase("installed", "install", _ITEM),
    (6002, 2): _Phrase("removed", "remove", _ITEM),
    (6006, 1): _Phrase("uploaded", "upload", _ITEM),
    (6006, 2): _Phrase("downloaded", "download", _ITEM),
    (6006, 3): _Phrase("changed", "change", _ITEM),
    (6006, 4): _Phrase("deleted", "delete", _ITEM),
    (6006, 5): _Phrase("renamed", "rename", _ITEM),
    (6006, 6): _Phrase("copied", "copy", _ITEM),
    (6006, 7): _Phrase("moved", "move", _ITEM),
    (6006, 8): _Phrase("restored", "restore", _ITEM),
    (6006, 9): _Phrase("previewed", "preview", _ITEM),
    (6006, 12): _Phrase("shared", "share", _ITEM, " with ", _PERSON),
    (6006, 13): _Phrase("stopped sharing", "stop sharing", _ITEM, " with ", _PERSON),
    (6006, 14): _Phrase("opened", "open", _ITEM),
}

_PEOPLE = "(?i)^(users?|systemuser|person|member|admin|invited-user|guest|worker)$"
_PLACES = "(?i)^(spaces?|device|sites?|orgs?|org_unit|domain|calendar|zone|mailbox|team|note)$"
_VAGUE = "(?i)^(object|other|resource|system|service)$"

_COMMON = (
    "accept access acknowledge activate add allow approve archive assign attach authorize block "
    "bypass cancel change claim clear close complete confirm connect consent copy create "
    "deactivate decline delete deny deploy detach detect disable disconnect discover dismiss "
    "download edit enable enroll escalate expire export finish generate get grant import initiate "
    "insert install invalidate invite issue join launch leave link lock log modify move open "
    "pause perform post preview print promote provision publish purge read recover register "
    "reject release remove rename renew reopen replace report request reset resolve restore "
    "resume retrieve return revert review revoke roll rotate run save search send set share sign "
    "start stop submit suspend sync transfer trash trigger trust unenroll uninstall unlink unlock "
    "unpause unregister unsuspend update upgrade upload validate verify view watch wipe write "
)
_VERBS = frozenset(_COMMON.split())
_IRREGULAR = {
    "get": "got", "leave": "left", "read": "read", "reset": "reset", "run": "ran", "send": "sent",
    "set": "set", "submit": "submitted", "stop": "stopped", "transfer": "transferred",
    "wipe": "wiped", "write": "wrote",
}  # fmt: skip
_NOUNS = frozenset(
    {"access", "invite", "log", "print", "report", "request"}
)  # if another verb follows
_PHASES = frozenset({"end", "success"})  # already in `outcome`
_FAILED = re.compile(" fail(ed|ure)?$")
_SHORT = {"new": "create", "del": "delete"}
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BETWEEN = re.compile(r"[\s_.:\-]+")
_LONGEST = 120


def _past(verb: str) -> str:
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    if verb.endswith("e"):
        return f"{verb}d"
    return f"{verb[:-1]}ied" if verb[-1] == "y" and verb[-2] not in "aeiou" else f"{verb}ed"


_PAST = {verb: _past(verb) for verb in _VERBS} | {"log": "logged"}
_BARE = {past: verb for verb, past in _PAST.items()} | {"scheduled": "schedule"}


@lru_cache(maxsize=65536)
def words(action: str) -> str:
    """Return the words of an action; `ChangeUserAccess` and `change.user.access` read alike."""
    spaced = _CAMEL.sub(" ", action[:_LONGEST])
    return _BETWEEN.sub(" ", spaced).strip().lower()


@lru_cache(maxsize=65536)
def verbal(action: str) -> tuple[str, str] | None:
    """Return an action in past tense and infinitive: `user_added` -> added user, add user."""
    parts = [_SHORT.get(word, word) for word in words(action).split(" ")]
    if parts[1:] and parts[-1] in _PHASES:
        parts.pop()
    if parts[1:] and parts[-1] == "begin":
        inner = verbal(" ".join(parts[:-1]))
        return inner and (f"began to {inner[1]}", f"begin to {inner[1]}")
    noun = parts[0] in _NOUNS and not _VERBS.isdisjoint(parts[1:2])
    if parts[0] in _VERBS and not noun:
        return " ".join([_PAST[parts[0]], *parts[1:]]), " ".join(parts)
    place = next((i for i, word in enumerate(parts) if word in _BARE), None)
    if place is None and parts[-1] in _VERBS:
        place, parts[-1] = len(parts) - 1, _PAST[parts[-1]]
    if place is None:
        return None
    rest = [*parts[:place], *parts[place + 1 :]]
    return " ".join([parts[place], *rest]), " ".join([_BARE[parts[place]], *rest])


def sentences(events: pl.DataFrame) -> pl.Series:
    """Return one message per event."""
    return (
        events.with_columns(_actor().alias("who"))
        .hstack(_named(events))
        .with_columns(_not_oneself(_ANY), _not_oneself(_PERSON))
        .hstack(_by_class(events))
        .hstack(_by_action(events["action"]))
        .select(pl.coalesce(_of_class(), _of_action()) + _reason())
        .to_series()
        .alias("message")
    )


def _by_class(events: pl.DataFrame) -> pl.DataFrame:
    """Return the phrase of each event's class and activity, null if there is none."""
    kinds = zip(events["class_uid"].to_list(), events["activity_id"].to_list(), strict=True)
    return _phrases()[pl.Series(map(_PLACES_OF_PHRASES.get, kinds), dtype=pl.UInt32)]


_PLACES_OF_PHRASES = {kind: place for place, kind in enumerate(_PHRASES)}


@cache
def _phrases() -> pl.DataFrame:
    return pl.DataFrame([asdict(phrase) for phrase in _PHRASES.values()])


def _by_action(actions: pl.Series) -> pl.DataFrame:
    """Return the words of each action, computed once per distinct one."""
    known, places = distinct(actions)
    named = [action or "unknown" for action in known]
    pairs = [verbal(action) for action in named]
    forms = pl.DataFrame(
        [
            pl.Series("named", [words(action) or "unknown" for action in named], pl.String),
            pl.Series("did", [p and p[0] for p in pairs], pl.String),
            pl.Series("do", [p and _FAILED.sub("", p[1]) for p in pairs], pl.String),
        ]
    )
    return forms[places]


def distinct(texts: pl.Series) -> tuple[list[str | None], pl.Series]:
    """Return the distinct values, and each value's index among them."""
    # Cheaper than `unique` and a join on the texts.
    values = texts.to_list()
    place = {text: place for place, text in enumerate(dict.fromkeys(values))}
    return list(place), pl.Series(map(place.__getitem__, values), dtype=pl.UInt32)


def _actor() -> pl.Expr:
    unnamed = pl.when(actor_type="system").then(pl.lit("The system")).otherwise(pl.lit("Somebody"))
    return pl.coalesce("actor_name", "actor_email", "actor_id", unnamed)


def _named(events: pl.DataFrame) -> pl.DataFrame:
    """Return, for each event, the first target of each of _KINDS and two names as `about`."""
    targets = (
        events.select(pl.col("targets"))
        .with_row_index("row")
        .explode("targets")
        .unnest("targets")
        .with_columns(pl.coalesce("name", "id"))
        .filter(pl.col("name").is_not_null())
    )
    person, place = pl.col("is_person").fill_null(False), pl.col("is_place").fill_null(False)
    wanted = {_ANY: ~place, _PERSON: person, _THING: ~person, _ITEM: ~(place | person)}
    same = pl.col("row") == pl.col("row").shift(-1)
    second = pl.when(same).then(pl.col("name").shift(-1))
    known = (
        targets.hstack(_types(targets["type"]))
        .select(
            "row",
            pl.concat_str("word", "name", separator=" ", ignore_nulls=True).alias("shown"),
            pl.concat_str("name", second, separator=", ", ignore_nulls=True).alias("about"),
            *(which.alias(kind) for kind, which in wanted.items()),
        )
        # The first target of an event is then the last that `_lasts` writes.
        .reverse()
    )
    columns = [
        known["shown"][_lasts(known["row"], known[kind], events.height)].alias(kind)
        for kind in wanted
    ]
    every = pl.repeat(True, known.height, eager=True)
    return pl.DataFrame([*columns, known["about"][_lasts(known["row"], every, events.height)]])


def _lasts(rows: pl.Series, which: pl.Series, height: int) -> pl.Series:
    """Return, for each event, the index of the last of these targets, or null."""
    # Cheaper than group_by or joins; of several values for one place, the last stays.
    places = which.arg_true()
    found = pl.Series([None], dtype=places.dtype).new_from_index(0, height)
    return found.scatter(rows[places], places)


def _types(types: pl.Series) -> pl.DataFrame:
    """Return, per target, whether it is a person or a place, and its word unless vague."""
    kind = pl.col("type")
    plain = kind.str.contains(_PEOPLE) | kind.str.contains(_VAGUE)
    word = (
        kind.str.replace_all("([a-z])([A-Z])", "$1 $2")
        .str.replace_all("[_.]", " ")
        .str.to_lowercase()
        .str.replace("ies$", "y")
        .str.replace("([^su])s$", "$1")
    )
    known, places = distinct(types)
    facts = pl.DataFrame([pl.Series("type", known, pl.String)]).select(
        is_person=kind.str.contains(_PEOPLE),
        is_place=kind.str.contains(_PLACES),
        word=pl.when(~plain).then(word),
    )
    return facts[places]


def _not_oneself(which: str) -> pl.Expr:
    oneself = pl.col(which) == pl.col("who")
    return pl.when(oneself).then(pl.lit("their own account")).otherwise(pl.col(which)).alias(which)


def _pick(column: str) -> pl.Expr:
    which = pl.col(column)
    return pl.coalesce(pl.when(which == kind).then(pl.col(kind)) for kind in _KINDS)


def _of_class() -> pl.Expr:
    """Build messages by class; null if the class is too general or its target is not named."""
    failed = pl.col("outcome") == "failure"
    unsure = (pl.col("outcome") == "unknown") & (pl.col("done") == "signed in")
    verb = (
        pl.when(failed)
        .then("could not " + pl.col("undone"))
        .when(unsure)
        .then("tried to " + pl.col("undone"))
        .otherwise("done")
    )
    thing = pl.when(pl.col("object").is_null()).then(pl.lit("")).otherwise(" " + _pick("object"))
    other = pl.col("joint") + _pick("other")
    needed = pl.col("object") == _PERSON
    other = pl.when(needed).then(other).otherwise(other.fill_null(""))
    return pl.concat_str(pl.col("who"), pl.lit(" "), verb, thing, other)


def _of_action() -> pl.Expr:
    """Build messages from the action: "Ada deleted file: x"; without a verb, "Ada: thing, x"."""
    failed = pl.col("outcome") == "failure"
    verb = pl.when(failed).then("could not " + pl.col("do")).otherwise("did")
    colon = (": " + pl.col("about")).fill_null("")
    comma = (", " + pl.col("about")).fill_null("")
    plain = pl.concat_str(pl.col("who"), pl.lit(": "), pl.col("named"))
    return pl.coalesce(pl.concat_str("who", pl.lit(" "), verb, colon), pl.concat_str(plain, comma))


def _reason() -> pl.Expr:
    failed = (pl.col("outcome") == "failure") & pl.col("outcome_reason").is_not_null()
    return pl.when(failed).then(" (" + pl.col("outcome_reason") + ")").otherwise(pl.lit(""))
