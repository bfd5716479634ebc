"""Findings that no search of single events can make: comparisons with earlier events.

Each takes events and a query, and returns at most 100 findings, most serious first: actor, detail,
first, last and n (events); `field` and `value`, if set, select the events among the actor's. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import polars as pl

from dashboard import fields, queries
from dashboard.queries import Query

MOST = 100
_BEFORE = timedelta(days=90)
_MONTH = timedelta(days=30)
_SILENT = timedelta(days=30)
_YEAR = timedelta(days=366)
_MANY = 20  # downloads in an hour
_FAILURES = 3  # of an account, within an hour before a success
_FAILURES_OF_ADDRESS, _ACCOUNTS = 10, 3
_COLUMNS = ("actor", "detail", "first", "last", "n", "field", "value")


def new_countries(events: pl.LazyFrame, query: Query) -> pl.DataFrame:
    """Return accounts with a country that is new to them, successful sign-ins first."""
    before = replace(query, since=query.since - _BEFORE)
    seen = (
        queries.matching(events, before)
        .select("time", "outcome", actor=fields.value("actor"), country=fields.value("country"))
        .drop_nulls(["actor", "country"])
        .group_by("actor", "country")
        .agg(
            known=(pl.col("time") < query.since).any(),
            first=pl.col("time").filter(pl.col("time") >= query.since).min(),
            last=pl.col("time").max(),
            n=(pl.col("time") >= query.since).sum(),
            succeeded=((pl.col("outcome") != "failure") & (pl.col("time") >= query.since)).sum(),
        )
        # An account without any known country is new itself.
        .filter(pl.col("known").any().over("actor"), ~pl.col("known"))
    )
    detail = pl.format(
        "{}, {} of {} succeeded", pl.col("country"), pl.col("succeeded"), pl.col("n")
    )
    found = seen.with_columns(detail=detail, field=pl.lit("country"), value=pl.col("country"))
    return _listed(found, "succeeded", "n")


def mass_downloads(events: pl.LazyFrame, query: Query) -> pl.DataFrame:
    """Return accounts with an hour of more downloads than any in the 30 days before."""
    before = replace(query, since=query.since - _MONTH)
    hours = (
        queries.matching(events, before)
        .select("time", actor=fields.value("actor"))
        .drop_nulls("actor")
        .group_by("actor", hour=pl.col("time").dt.truncate("1h"))
        .agg(n=pl.len(), first=pl.col("time").min(), last=pl.col("time").max())
        .with_columns(
            usual=pl.col("n").filter(pl.col("first") < query.since).max().over("actor").fill_null(0)
        )
        .filter(
            pl.col("first") >= query.since,
            pl.col("n") >= _MANY,
            pl.col("n") > pl.col("usual"),
        )
        .group_by("actor")
        .agg(
            pl.col("first").min(),
            pl.col("last").max(),
            pl.col("n").sum(),
            most=pl.col("n").max(),
            usual=pl.col("usual").max(),
        )
    )
    detail = pl.format("{} in one hour, at most {} before", pl.col("most"), pl.col("usual"))
    return _listed(hours.with_columns(detail=detail), "most")


def dormant(events: pl.LazyFrame, query: Query) -> pl.DataFrame:
    """Return accounts with an event after 30 days or more without any, the longest first."""
    # All events of the account count, whatever the search leaves out.
    known = replace(query, since=query.since - _YEAR, text="", filters=())
    times = (
        queries.matching(events, known)
        .select("time", actor=fields.value("actor"))
        .drop_nulls("actor")
        .group_by("actor")
        .agg(pl.col("time").sort())
        .explode("time")
        .with_columns(silent=pl.col("time").diff().over("actor"))
        .filter(pl.col("time") >= query.since)
        .group_by("actor")
        .agg(
            first=pl.col("time").filter(pl.col("silent") >= _SILENT).min(),
            last=pl.col("time").max(),
            n=pl.len(),
            silent=pl.col("silent").max(),
        )
        .filter(pl.col("silent") >= _SILENT)
    )
    chosen = queries.matching(events, query).select(actor=fields.value("actor")).unique()
    detail = pl.format("no event for {} days", pl.col("silent").dt.total_days())
    return _listed(times.join(chosen, on="actor", how="semi").with_columns(detail=detail), "silent")


def failed_then_successful(events: pl.LazyFrame, query: Query) -> pl.DataFrame:
    """Return accounts that signed in within an hour after failures of theirs or of their address.

    Three failures of the account are enough; of the address ten, for at least three accounts, since
    the people of an office share theirs.
    """
    # Failures just before the range count for a success at its beginning.
    before = replace(query, since=query.since - timedelta(hours=1))
    tries = (
        queries.matching(events, before)
        .select(
            "time",
            actor=fields.value("actor"),
            ip=fields.value("source_ip"),
            failed=pl.col("outcome") == "failure",
        )
        .drop_nulls("actor")
        .collect()
    )
    own = _after_failures(tries, "actor").filter(pl.col("failures") >= _FAILURES)
    shared = _after_failures(tries.drop_nulls("ip"), "ip").filter(
        pl.col("failures") >= _FAILURES_OF_ADDRESS, pl.col("accounts") >= _ACCOUNTS
    )
    found = pl.concat([own, shared]).filter(pl.col("time") >= query.since)
    detail = (
        pl.when(pl.col("accounts") > 1)
        .then(pl.format("{} failures on {} accounts, then a success", "n", "accounts"))
        .otherwise(pl.format("{} failures, then a success", "n"))
    )
    listed = (
        found.lazy()
        .group_by("actor")
        .agg(
            first=pl.col("time").min(),
            last=pl.col("time").max(),
            n=pl.col("failures").max(),
            accounts=pl.col("accounts").max(),
            value=pl.col("ip").sort_by("failures", descending=True).drop_nulls().first(),
        )
        .with_columns(
            detail=pl.concat_str(
                detail, pl.lit(" from "), pl.col("value").fill_null("an unknown address")
            )
        )
    )
    return _listed(listed, "accounts", "n")


def _after_failures(tries: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return the successes that follow failures with the same `key` within an hour.

    `failures` and `accounts` count those failures and the accounts they were for.
    """
    failed = pl.col("failed")
    # Few keys have failed often enough; only theirs are worth a moving window.
    often = tries.filter(failed.sum().over(key) >= _FAILURES).sort(key, "time")
    windows = (
        often.rolling("time", period="1h", closed="both", group_by=key)
        .agg(failures=failed.sum(), accounts=pl.col("actor").filter(failed).n_unique())
        # All tries at one time have the same window.
        .unique([key, "time"])
    )
    succeeded = often.filter(~failed)
    return succeeded.join(windows, on=[key, "time"]).select(
        "time", "actor", "ip", "failures", "accounts"
    )


def _listed(found: pl.LazyFrame, *by: str) -> pl.DataFrame:
    """Return the findings in order of `by`, the highest first."""
    texts = [pl.lit(None, pl.String).alias(name) for name in ("field", "value")]
    known = found.collect_schema().names()
    return (
        found.with_columns(one for one in texts if one.meta.output_name() not in known)
        .sort(*by, "actor", descending=[*(True for _ in by), False])
        .select(_COLUMNS)
        .head(MOST)
        .collect()
    )
