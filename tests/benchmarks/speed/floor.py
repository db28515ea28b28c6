"""The floor: fetch the pages, parse them, write one Parquet file, and nothing else.

``python -m tests.benchmarks.speed.floor URL FILE CONNECTIONS`` is a script that whoever only wants the
numbers once would write, by hand and with care: kept-alive connections of `http.client`, zlib,
`pyarrow.json` under an explicit schema, one zstd Parquet file. It retries nothing, checks nothing, and keeps
no history. With one connection everything happens on one thread.
"""

import base64
import http.client
import os
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from urllib.parse import urlencode, urlsplit

import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

COUNTS = (
    "total", "recipients", "attempts", "queued", "sent", "scheduled", "delivered", "opened",
    "undelivered", "failed", "canceled",
)  # fmt: skip
MOMENT = pa.timestamp("s", tz="UTC")
RECORD = pa.struct(
    {
        "id": pa.string(),
        "status": pa.string(),
        "stats": pa.struct(dict.fromkeys(COUNTS, pa.int64())),
        "createdAt": MOMENT,
        "updatedAt": MOMENT,
    }
)
PAGE = pa.schema({"operations": pa.list_(RECORD), "pagination": pa.struct({"next": pa.string()})})
OPTIONS = pj.ParseOptions(explicit_schema=PAGE, unexpected_field_behavior="ignore")
LOCAL = threading.local()


def listing(url: str, window: tuple[str, str]) -> list[pa.Table]:
    """Every page of a window."""
    address = urlsplit(url)
    if not hasattr(LOCAL, "connection"):
        LOCAL.connection = http.client.HTTPConnection(address.hostname or "", address.port)
    user = f"{os.environ['TWILIO_ACCOUNT_SID']}:{os.environ['TWILIO_AUTH_TOKEN']}"
    headers = {
        "Authorization": f"Basic {base64.b64encode(user.encode()).decode()}",
        "Accept-Encoding": "gzip",
    }
    query = {"startDate": window[0], "endDate": window[1], "pageSize": "1000"}
    pages = []
    while True:
        path = f"{address.path}/Emails/Operations?{urlencode(query)}"
        LOCAL.connection.request("GET", path, headers=headers)
        body = zlib.decompress(LOCAL.connection.getresponse().read(), wbits=31)
        read = pj.ReadOptions(use_threads=False, block_size=len(body) + 1)
        page = pj.read_json(pa.BufferReader(body), read_options=read, parse_options=OPTIONS)
        records = page["operations"].chunk(0).flatten()
        identity, status, stats, created, updated = records.flatten()
        names = ["id", "status", *COUNTS, "createdAt", "updatedAt"]
        pages.append(pa.table([identity, status, *stats.flatten(), created, updated], names))
        token = page["pagination"].chunk(0).field("next")[0].as_py()
        if token is None:
            return pages
        query["pageToken"] = token


def windows(connections: int) -> list[tuple[str, str]]:
    """The last 7 days: by day, or for many connections by 3 hours, so that all are busy to the end."""
    hours = 24 if connections == 1 else 3
    texts = [f"2026-11-{18 + n // 24:02}T{n % 24:02}:00:00Z" for n in range(0, 8 * 24 + 1, hours)]
    return list(pairwise(texts))


def main(url: str, file: str, connections: int) -> None:
    if connections == 1:
        found = [listing(url, window) for window in windows(1)]
    else:
        with ThreadPoolExecutor(connections) as pool:
            found = list(pool.map(lambda window: listing(url, window), windows(connections)))
    table = pa.concat_tables([page for pages in found for page in pages])
    pq.write_table(table, file, compression="zstd")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
