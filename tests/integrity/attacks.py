"""Attacks that need only write access to the lake's files."""

import json
import random
import shutil

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from tests.integrity.worlds import LOG


def rewrite(signed, rows, fence=None):
    """Replace the whole table by a valid Delta table with the right fence and settings."""
    rewrite_of(signed, rows, LOG.app, fence)


def rewrite_of(signed, rows, app, fence=None):
    """Replace a table whose fence has this app id."""
    old = DeltaTable(str(signed.table))
    fence = fence or old.transaction_version(app)
    rows = rows.select(signed.rows().columns)
    shutil.rmtree(signed.table)
    write_deltalake(
        str(signed.table),
        rows,
        partition_by=["date"],
        configuration={"delta.appendOnly": "true"},
        commit_properties=CommitProperties(app_transactions=[Transaction(app, fence)]),
    )


def where(seq, column, value):
    """Return an expression that changes one column of one row."""
    changed = pl.when(pl.col("seq") == seq).then(value).otherwise(pl.col(column))
    return changed.alias(column)


def modify(signed, seq=417):
    """Replace a raw record and its digest."""
    import hashlib

    raw = signed.rows()["raw"][seq].replace("SUCCESS", "FAILURE")
    digest = hashlib.sha256(raw.encode()).hexdigest()
    values = (where(seq, "raw", pl.lit(raw)), where(seq, "raw_sha256", pl.lit(digest)))
    rewrite(signed, signed.rows().with_columns(*values))


def modify_raw_only(signed):
    rewrite(signed, signed.rows().with_columns(where(417, "raw", pl.lit("{}"))))


def modify_arrival(signed):
    later = pl.col("ingested_at") + pl.duration(days=1)
    rewrite(signed, signed.rows().with_columns(where(417, "ingested_at", later)))


def modify_identity(signed):
    rewrite(signed, signed.rows().with_columns(where(417, "event_id", pl.lit("other"))))


def delete(signed):
    rewrite(signed, signed.rows().filter(pl.col("seq") != 417))


def delete_and_renumber(signed):
    rows = signed.rows().filter(pl.col("seq") != 417)
    rewrite(signed, renumbered(rows))


def renumbered(rows):
    return rows.with_columns(seq=pl.int_range(rows.height, dtype=pl.Int64))


def truncate(signed, left=600):
    rewrite(signed, signed.rows().head(left))


def insert(signed):
    """Append a made-up record, with the matching fence."""
    rows = signed.rows()
    rewrite(signed, pl.concat([rows, made_up(rows)]), fence=rows.height + 1)


def made_up(rows):
    identity = pl.lit("made up").alias("event_id")
    return rows.tail(1).with_columns(identity, seq=pl.lit(rows.height, dtype=pl.Int64))


def insert_in_between(signed):
    rows = signed.rows()
    rewrite(signed, renumbered(pl.concat([rows[:417], made_up(rows), rows[417:]])))


def insert_under_a_taken_number(signed):
    rows = signed.rows()
    rewrite(signed, pl.concat([rows, made_up(rows).with_columns(seq=pl.lit(417, pl.Int64))]))


def insert_below_zero(signed):
    rows = signed.rows()
    rewrite(signed, pl.concat([rows, made_up(rows).with_columns(seq=pl.lit(-1, pl.Int64))]))


def duplicate(signed):
    rows = signed.rows()
    rewrite(signed, pl.concat([rows, rows[417:418]]))


def duplicate_and_renumber(signed):
    rows = signed.rows()
    rewrite(signed, renumbered(pl.concat([rows[:417], rows[300:301], rows[417:]])))


def reorder(signed):
    """Exchange rows 417 and 500."""
    rows = signed.rows()
    rewrite(signed, renumbered(pl.concat([rows[:417], rows[500:501], rows[418:500],
                                          rows[417:418], rows[501:]])))  # fmt: skip


def swap(signed):
    """Exchange the records of rows 417 and 418, but neither positions nor ids."""
    rows = signed.rows()
    pair = rows[417:419].with_columns(pl.col("raw", "raw_sha256").reverse())
    rewrite(signed, pl.concat([rows[:417], pair, rows[419:]]))


def replace_via(signed):
    rewrite(signed, signed.rows().with_columns(where(417, "via", pl.lit("webhook"))))


def files(signed):
    handle = DeltaTable(str(signed.table))
    return sorted((signed.table / path for path in handle.get_add_actions()["path"].to_pylist()
                   ), key=str)  # fmt: skip


def lose_a_file(signed):
    files(signed)[2].unlink()


def flip_bits(signed, seed=1):
    """Flip one bit in the middle of each data file, as a failing disk might."""
    chance = random.Random(seed)
    for file in files(signed):
        data = bytearray(file.read_bytes())
        data[chance.randrange(len(data) // 4, len(data) // 2)] ^= 1 << chance.randrange(8)
        file.write_bytes(data)


def commits(signed):
    return sorted((signed.table / "_delta_log").glob("*.json"))


def empty_the_last_commit(signed):
    commits(signed)[-1].write_bytes(b"")


def delete_the_last_commit(signed):
    commits(signed)[-1].unlink()


def drop_an_added_file(signed):
    """Remove an `add` action from a commit of the Delta log."""
    commit = commits(signed)[3]
    lines = [line for line in commit.read_text().splitlines() if "add" not in json.loads(line)]
    commit.write_text("\n".join(lines))


def restore(signed):
    DeltaTable(str(signed.table)).restore(4)


def edit_statistics(signed):
    """Hide a row in a file whose statistics do not include it."""
    rows = signed.rows()
    write_deltalake(
        str(signed.table), made_up(rows).with_columns(seq=pl.lit(-5, pl.Int64)), mode="append"
    )
    commit = commits(signed)[-1]
    commit.write_text(commit.read_text().replace('\\"seq\\":-5', '\\"seq\\":5'))


def hide_from_searches(signed, column="seq", low=10**6, high=10**6):
    """Let the statistics of the first file exclude all its rows."""
    commit = next(c for c in commits(signed) if '"add"' in c.read_text())
    lines = [json.loads(line) for line in commit.read_text().splitlines()]
    for line in lines:
        if "add" in line:
            stats = json.loads(line["add"]["stats"])
            stats["minValues"][column], stats["maxValues"][column] = low, high
            line["add"]["stats"] = json.dumps(stats)
    commit.write_text("".join(json.dumps(line) + "\n" for line in lines))


def drop_the_table(signed):
    shutil.rmtree(signed.table)


def break_the_log(signed):
    commits(signed)[-1].write_bytes(b'{"add": {"path"')
