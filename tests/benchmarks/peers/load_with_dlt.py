"""dlt loads the operations: run by the environment that versions.txt makes, never by the project's.

``python load_with_dlt.py URL DESTINATION FOLDER`` is what dlt's documentation recommends for a REST API: its
`rest_api` source with a JSON cursor paginator and HTTP Basic, an `incremental` cursor on `createdAt` for the
start of the listing, `merge` by `id`, the schema of the counts given as columns, and nested `stats`
flattened. The filesystem destination writes Parquet; it has no merge of its own without a table format, for
which dlt appends and says so, so it is asked to append.
"""

import os
import sys

import dlt
from dlt.sources.rest_api import rest_api_source

COUNTS = (
    "total", "recipients", "attempts", "queued", "sent", "scheduled", "delivered", "opened",
    "undelivered", "failed", "canceled",
)  # fmt: skip


def main(url: str, destination: str, folder: str) -> None:
    """Load everything of the last 7 days."""
    source = rest_api_source(
        {
            "client": {
                "base_url": url,
                "auth": {
                    "type": "http_basic",
                    "username": os.environ["TWILIO_ACCOUNT_SID"],
                    "password": os.environ["TWILIO_AUTH_TOKEN"],
                },
                "paginator": {
                    "type": "cursor",
                    "cursor_path": "pagination.next",
                    "cursor_param": "pageToken",
                },
            },
            "resources": [
                {
                    "name": "operations",
                    "primary_key": "id",
                    "write_disposition": "merge" if destination == "duckdb" else "append",
                    "columns": {f"stats__{name}": {"data_type": "bigint"} for name in COUNTS},
                    "endpoint": {
                        "path": "Emails/Operations",
                        "data_selector": "operations",
                        "params": {"pageSize": 1000, "startDate": "{incremental.start_value}"},
                        "incremental": {
                            "cursor_path": "createdAt",
                            "initial_value": "2026-11-18T12:00:00Z",
                        },
                    },
                }
            ],
        }
    )
    to = (
        dlt.destinations.duckdb(f"{folder}/dlt.duckdb")
        if destination == "duckdb"
        else dlt.destinations.filesystem(f"file://{folder}/files")
    )
    pipeline = dlt.pipeline(
        "operations", destination=to, dataset_name="twilio", pipelines_dir=f"{folder}/state"
    )
    sys.stdout.write(f"{pipeline.run(source, loader_file_format='parquet')}\n")


if __name__ == "__main__":
    main(*sys.argv[1:4])
