"""Writes every licence plate a vehicle group reads into SQLite: when, which stream, the text, how sure.

    python examples/apps/plates.py plates.db
    sqlite3 plates.db 'select * from plates order by seen desc limit 10'

A plate is written once per stream and minute: `seen` is when the frame was taken (UTC), `media_time_s` its place in
the video, s.
"""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime

import hams_client
from hams_client import Object, Result


def texts(objects: list[Object]) -> Iterator[tuple[str, float | None]]:
    """Yield (text, score) of everything that was read, at any depth; None: the network gives no score."""
    for one in objects:
        for node, said in one.items():
            if isinstance(said, dict) and said.get("text"):
                score = said.get("score")
                yield str(said["text"]), None if score is None else float(score)
            yield from texts(one.found_by(node))


def write(database: sqlite3.Connection, result: Result, least: float) -> Iterator[str]:
    """Write the texts of one frame, yield a line for each that is new; those without a score are written as well."""
    seen = datetime.fromtimestamp(result.captured, UTC)
    for plate, score in texts(result.objects):
        if score is not None and score < least:
            continue
        at = seen.isoformat(timespec="milliseconds")
        row = (f"{seen:%Y-%m-%dT%H:%M}", result.stream, plate, score, at, result.media_time_s)
        with database:
            new = database.execute("insert or ignore into plates values (?, ?, ?, ?, ?, ?)", row).rowcount
        if new:
            yield f"{at} {result.stream} {plate} {'-' if score is None else f'{score:.2f}'}"


def opened(path: str) -> sqlite3.Connection:
    """Open the database; make it where it is not there."""
    database = sqlite3.connect(path)
    database.execute(
        "create table if not exists plates (minute text, stream text, plate text, score real, seen text, "
        "media_time_s real, primary key (minute, stream, plate))"
    )
    if not any(name == "media_time_s" for _, name, *_ in database.execute("pragma table_info(plates)")):
        database.execute("alter table plates add column media_time_s real")  # a database of an older version
    return database


def main() -> None:
    """Run until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", help="SQLite file; made when it is not there")
    parser.add_argument("--group", default="vehicle", help="name of a deployed group")
    parser.add_argument("--least", type=float, default=0.6, help="least score of a text that has one")
    parser.add_argument("--count", type=int, help="stop after so many plates")
    parser.add_argument("--nats", help="broker (default: that of the running hams-ctl up)")
    given = parser.parse_args()
    database = opened(given.database)
    written = 0
    with hams_client.sync.connect(given.nats) as hams:
        for result in hams.results(given.group):
            for line in write(database, result, given.least):
                written += 1
                print(line, flush=True)
                if written == given.count:
                    return


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
    except hams_client.HamsError as error:
        raise SystemExit(str(error)) from None
