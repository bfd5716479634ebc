"""Resolves persons to their accounts: the one place where an event without an address gets one.

An account belongs to the only person it was ever seen with, if that person has no other account of
the same sort in the integration. Otherwise, an address was re-used or an account renamed: then the
account belongs to a person on those days (UTC) only on which nothing else was seen in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

import polars as pl

from pipelines.schemas import IDENTITIES
from pipelines.search.terms import Either, Every, Node, Not, Term, Word

PERSON = "person"
"""The column that `People.named` adds: the address behind an account without one, or null."""
ACTOR = "actor"
"""The field whose value is the address of a person."""
_BETWEEN = "\0"
_ACCOUNT, _ADDRESS = (["integration", "identifier", column] for column in ("value", "person"))
_KEYS: dict[str, pl.DataType] = {"key": pl.String(), PERSON: pl.String()}


def _nobody() -> pl.DataFrame:
    return pl.DataFrame(schema=_KEYS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class People:
    """The accounts of each person: key, person."""

    always: pl.DataFrame = field(default_factory=_nobody)
    """By integration and account, at any time."""
    on_days: pl.DataFrame = field(default_factory=_nobody)
    """By integration, account and date."""

    def named(self, events: pl.LazyFrame) -> pl.LazyFrame:
        """Return the events, or aggregates by date, with the column `person`."""
        return events.with_columns(self._person().alias(PERSON))

    @property
    def unknown(self) -> bool:
        """Whether nobody is known, so that `person` would be null in every row."""
        return not self.always.height and not self.on_days.height

    def addresses(self, accounts: Collection[str], *, exact: bool = True) -> list[str]:
        """Return the addresses of the persons who are the only ones with one of these accounts.

        Equal ids in several integrations are several accounts. Unless `exact`, case is ignored.
        """
        account = self.always["key"].str.split(_BETWEEN).list.last()
        if not exact:
            account, accounts = account.str.to_lowercase(), [one.lower() for one in accounts]
        found = self.always.filter(account.is_in(list(accounts)))
        return sorted({*found[PERSON]} - {*accounts})

    def resolved(self, node: Node) -> Node:
        """Return the search in which an account of a person stands for the address as well."""
        match node:
            case Not(part=part):
                return Not(part=self.resolved(part))
            case Every(parts=parts) | Either(parts=parts):
                return replace(node, parts=tuple(map(self.resolved, parts)))
            case Term(field=str(name), words=words) if name == ACTOR:
                added = (Word(text=address, quoted=True) for address in self.meant(node))
                return replace(node, words=(*words, *added))
        return node

    def meant(self, node: Node) -> list[str]:
        """Return the addresses that accounts in the search stand for."""
        found = {
            address
            for term in _actors(node)
            for address in self.addresses(
                [word.text for word in term.words if isinstance(word, Word)], exact=term.exact
            )
        }
        return sorted(found)

    def _person(self) -> pl.Expr:
        # Null in all rows that have an address, so that those cost nothing.
        nameless = pl.when(pl.col("actor_email").fill_null("") == "").then(pl.col("integration"))
        key = pl.concat_str(nameless, "actor_id", separator=_BETWEEN)
        found = [_looked_up(key, self.always)] if self.always.height else []
        if self.on_days.height:
            daily = pl.concat_str(key, pl.col("date").cast(pl.String), separator=_BETWEEN)
            found.append(_looked_up(daily, self.on_days))
        return pl.coalesce(found) if found else pl.lit(None, pl.String)


NOBODY = People()
"""For a lake without the table `identities`."""


def people(identities: pl.DataFrame) -> People:
    """Return the persons that the rows of schemas.IDENTITIES resolve to, in any order of them."""
    counted = identities.select(list(IDENTITIES)).with_columns(
        persons=pl.col("person").n_unique().over(_ACCOUNT),
        accounts=pl.col("value").n_unique().over(_ADDRESS),
    )
    sole = (pl.col("persons") == 1) & (pl.col("accounts") == 1)
    key = pl.concat_str("integration", "value", separator=_BETWEEN)
    always = counted.filter(sole).select(key=key, person="person")
    daily = pl.concat_str("integration", "value", "date", separator=_BETWEEN)
    on_days = _alone(counted.filter(~sole)).select(key=daily, person="person")
    return People(always=_unambiguous(always), on_days=_unambiguous(on_days))


def _alone(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the days on which an account and an address were seen with each other alone."""
    days = rows.with_columns(
        date=pl.date_ranges(pl.col("first_event").dt.date(), pl.col("last_seen").dt.date())
    ).explode("date")
    once = (pl.len().over([*_ACCOUNT, "date"]) == 1) & (pl.len().over([*_ADDRESS, "date"]) == 1)
    return days.filter(once)


def _actors(node: Node) -> Iterator[Term]:
    """Yield the terms on actors."""
    match node:
        case Not(part=part):
            yield from _actors(part)
        case Every(parts=parts) | Either(parts=parts):
            for part in parts:
                yield from _actors(part)
        case Term(field=str(name)) if name == ACTOR:
            yield node


def _unambiguous(keys: pl.DataFrame) -> pl.DataFrame:
    """Return the keys that stand for one person; replace_strict would refuse the others."""
    return keys.unique().filter(pl.len().over("key") == 1).sort("key")


def _looked_up(key: pl.Expr, known: pl.DataFrame) -> pl.Expr:
    return key.replace_strict(known["key"], known[PERSON], default=None, return_dtype=pl.String)
