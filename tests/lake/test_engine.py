"""DuckDB as the archive asks it: again, when a file was replaced while it was being read."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.lake import engine


def test_query_meeting_a_replaced_file_is_retried(tmp_path: Path):
    """R6: DuckDB opens a file more than once for a query, and can't know that it is another."""
    part = tmp_path / "part-0.parquet"
    pq.write_table(pa.table({"n": range(100)}), part)
    whole = part.read_bytes()
    part.write_bytes(whole[:20] + whole[60:])
    tries = 0

    def asked() -> object:
        nonlocal tries
        tries += 1
        if tries == 3:
            part.write_bytes(whole)
        with engine.connect() as connection:
            return connection.execute(
                "SELECT sum(n)::BIGINT FROM read_parquet(?)", [str(part)]
            ).fetchone()

    assert engine.retry_torn_reads(asked) == (4950,)
    assert tries == 3


def test_what_exceeds_the_memory_lies_where_it_should_and_goes(tmp_path: Path):
    spill = tmp_path / "spill"
    met: set[str] = set()
    with engine.connect(spill=spill) as connection:
        connection.execute("SET memory_limit = '100MB'; SET threads = 1")
        rows = connection.sql(
            "SELECT range AS i, repeat('x', 99) || range AS s FROM range(1_500_000)"
        )
        for batch in rows.order("hash(i)").to_arrow_reader(100_000):
            assert batch.num_rows
            met |= {path.name for path in spill.iterdir()}
    assert met
    assert not spill.exists() or not list(spill.iterdir())


@pytest.mark.parametrize(
    ("query", "error"),
    [("FROM nothing", duckdb.CatalogException), ("SELECT 1 +", duckdb.ParserException)],
)
def test_invalid_query_is_not_retried(query: str, error: type[Exception]):
    tries = 0

    def asked() -> object:
        nonlocal tries
        tries += 1
        with engine.connect() as connection:
            return connection.execute(query).fetchone()

    with pytest.raises(error):
        engine.retry_torn_reads(asked)
    assert tries == 1


def test_damaged_file_is_an_error_in_the_end(tmp_path: Path):
    """R9"""
    part = tmp_path / "part-0.parquet"
    part.write_bytes(b"no parquet at all")

    def asked() -> object:
        with engine.connect() as connection:
            return connection.execute(
                "SELECT count(*) FROM read_parquet(?)", [str(part)]
            ).fetchone()

    with pytest.raises(duckdb.Error, match=r"part-0\.parquet"):
        engine.retry_torn_reads(asked)
