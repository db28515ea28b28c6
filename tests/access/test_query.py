"""A user's SQL: it reads the archive's tables, and reaches and changes nothing else."""

from pathlib import Path

import pytest

from pipeline.access.query import ask, confine
from pipeline.errors import ArchiveError, UsageError
from pipeline.lake import engine
from pipeline.lake.layout import Lake
from pipeline.model.schema import PUBLISHED
from pipeline.outputs.warehouse import publish
from tests.support.command import run
from tests.support.factories import derived, new_lake, record, scan

SECRET = "tok-3n-very-secret"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """An archive of one operation, with a file of somebody's beside its tables."""
    lake = derived(new_lake(tmp_path_factory.mktemp("query")), scan([record(1)]))
    (lake.root / ".env").write_text(f"TWILIO_AUTH_TOKEN={SECRET}")
    publish(lake)
    return lake


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "question",
    [
        "SELECT content FROM read_text('/proc/self/environ')",
        "SELECT content::VARCHAR FROM read_blob('/proc/self/environ')",
        "FROM read_csv('/proc/self/environ', sep = '\\x01', header = false)",
        "FROM read_text('/etc/passwd')",
        "FROM '/etc/passwd'",
        "FROM sniff_csv('/etc/passwd')",
        "FROM glob('/etc/*')",
        "FROM read_text('{root}/.env')",
        "FROM read_text('{root}/operations/../.env')",
        "FROM read_text('{root}/operations/link')",
        "FROM read_text('{root}/operations/folder/.env')",
        "SELECT getenv('TWILIO_AUTH_TOKEN')",
        "FROM duckdb_secrets()",
        "FROM read_csv('https://example.com/x.csv')",
        "FROM settings",
    ],
)
def test_sql_reads_nothing_outside_the_tables(lake: Lake, question: str):
    """R11: neither a file of this machine, nor the environment, nor a variable of the process."""
    link, folder = (lake.root / "operations" / name for name in ("link", "folder"))
    link.symlink_to(lake.root / ".env")
    folder.symlink_to(lake.root)
    try:
        with pytest.raises(ArchiveError):
            ask(lake, question.format(root=lake.root))
    finally:
        link.unlink()
        folder.unlink()


def test_sql_command_does_not_show_the_token(lake: Lake, tmp_path: Path):
    """R11"""
    question = "SELECT content FROM read_text('/proc/self/environ')"
    data = ("--data", str(lake.root))
    done = run("sql", question, *data, cwd=tmp_path, TWILIO_AUTH_TOKEN=SECRET)
    assert (done.returncode, done.stdout) == (1, "")
    assert "reads the archive's tables and no other file" in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "COPY operations TO '{file}'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}'",
        "/* a comment */ EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}'",
        "-- ä comment\nexplain\n/* one more */ (ANALYZE) copy (SELECT 1) TO '{file}'",
        "EXPLAIN (FORMAT json, ANALYZE) COPY (SELECT 1) TO '{file}'",
        "WITH a AS (COPY (SELECT 1) TO '{file}') FROM a",
        "EXPLAIN ANALYZE WITH a AS (COPY (SELECT 1) TO '{file}') FROM a",
        "EXPLAIN ANALYZE\u00a0WITH a AS (COPY (SELECT 1) TO '{file}') SELECT 1",
        "EXPLAIN ANALYZE\u3000WITH a AS (COPY (SELECT 1) TO '{file}') SELECT 1",
        "FROM (WITH a AS (COPY (SELECT 1) TO '{file}') FROM a)",
        "FROM query('COPY (SELECT 1) TO ''{file}''')",
        "EXPORT DATABASE '{file}'",
        "ATTACH '{file}'",
        "CREATE TABLE t AS SELECT 1",
        "CREATE TEMP TABLE t AS SELECT 1",
        "DELETE FROM delivery_daily",
        "EXPLAIN ANALYZE DELETE FROM delivery_daily",
        "WITH a AS (DELETE FROM delivery_daily RETURNING *) FROM a",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA profiling_output = '{file}'",
        "SET profiling_output = '{file}'",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "CALL enable_logging(storage := 'file', storage_path := '{file}')",
        "FROM enable_logging(storage := 'file', storage_path := '{file}')",
        "SELECT 1; COPY operations TO '{file}'",
        "WITH a AS (COPY (SELECT 1) TO '{file}') PIVOT a ON \"Count\"",
        "PIVOT (WITH a AS (COPY (SELECT 1) TO '{file}') FROM a) ON \"Count\"",
        "PIVOT operations ON status) ; COPY operations TO '{file}'; FROM (SELECT 1",
        "PIVOT operations ON status; COPY operations TO '{file}'",
        "COPY (PIVOT operations ON status) TO '{file}'",
        "CREATE TEMP TABLE t AS PIVOT operations ON status",
        "FROM (WITH\u00a0a AS (COPY (SELECT 1) TO '{file}') PIVOT a ON \"Count\")",
        "EXPLAIN ANALYZE WITH a AS (COPY (SELECT 1) TO '{file}') PIVOT a ON \"Count\"",
    ],
)
def test_sql_writes_nothing(lake: Lake, tmp_path: Path, statement: str):
    """Neither where the process is, nor in the archive's own folders, where files may be read."""
    before = files(lake.root)
    for file in (tmp_path / "written", lake.root / "operations" / "written"):
        with pytest.raises(ArchiveError):
            ask(lake, statement.format(file=file))
    assert files(lake.root) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("", "the query is empty"),
        (";", "the query is empty"),
        ("-- nothing", "the query is empty"),
        ("SELECT 1; SELECT 2", "expected one query; got 2 statements"),
        ("CALL pragma_version()", "CALL is refused, since the archive is only read here"),
        ("DROP TABLE operations", "DROP is refused"),
        ("COPY operations TO 'x'", "COPY is refused"),
        ("EXPLAIN DROP TABLE operations", "EXPLAIN of something else is refused"),
        ("WITH a AS (FROM operations) PIVOT a ON status", "expected a PIVOT without a WITH clause"),
    ],
)
def test_what_is_no_query_is_told_from_what_else(lake: Lake, statement: str, message: str):
    with pytest.raises(UsageError, match=message):
        ask(lake, statement)


def test_sql_refuses_what_is_not_utf_8(lake: Lake):
    with pytest.raises(UsageError, match="not valid UTF-8"):
        ask(lake, "SELECT '\udcff'")


@pytest.mark.parametrize(
    "question",
    [
        *(f"FROM {table.name}" for table in PUBLISHED),
        "FROM operations_as_of(TIMESTAMPTZ '2026-11-20 15:00Z')",
        "WITH mine AS (FROM operations WHERE status = 'COMPLETED') SELECT count(*) FROM mine; -- one",
        "DESCRIBE operations",
        "SUMMARIZE operations",
        "SHOW TABLES",
        "SELECT comment FROM duckdb_columns() WHERE table_name = 'operations'",
        "FROM operations PIVOT (count(*) FOR status IN ('COMPLETED', 'CANCELED'))",
        "PIVOT operations ON status USING count(*)",
        "PIVOT operations ON status; -- one",
        "FROM (PIVOT operations ON status USING count(*)) -- one",
        "UNPIVOT operations ON sent, delivered",
        "EXPLAIN FROM operations",
        "/* ä */ explain (analyze) SELECT count(*) FROM operations",
        "EXPLAIN (FORMAT json) FROM operations",
    ],
)
def test_sql_returns_rows(lake: Lake, question: str):
    assert ask(lake, question).column_names


def test_result_keeps_the_order_and_names_of_the_query(lake: Lake):
    found = ask(lake, "SELECT -i AS a, i AS b FROM range(5000) t(i) ORDER BY i % 7, i DESC LIMIT 3")
    assert found.to_pydict() == {"a": [-4998, -4991, -4984], "b": [4998, 4991, 4984]}


@pytest.mark.parametrize("linked", ["the archive", "a table"])
def test_archive_behind_a_symbolic_link_is_read(tmp_path: Path, linked: str):
    """A table may lie on another disk, and be linked to from the archive."""
    real = derived(new_lake(tmp_path / "it's"), scan([record(1)]))
    lake = Lake(tmp_path / "link")
    lake.root.symlink_to(real.root)
    if linked == "a table":
        (real.root / "history").rename(tmp_path / "other disk")
        (real.root / "history").symlink_to(tmp_path / "other disk")
    publish(lake)
    for table in ("operations", "history", "delivery_daily"):
        assert ask(lake, f"FROM {table}").num_rows == 1


def test_confined_connection_spills_into_the_archive(lake: Lake):
    with engine.connect(str(lake.warehouse), spill=lake.spill, read_only=True) as connection:
        connection.execute("SET memory_limit = '100MB'")
        connection.execute("SET threads = 1")
        confine(connection, lake)
        connection.execute(
            "SELECT range AS i, repeat('x', 500) FROM range(500000) ORDER BY hash(i)"
        )
        assert any(lake.spill.iterdir())
        assert len(connection.fetchall()) == 500_000
