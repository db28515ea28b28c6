"""Bodies of responses: compression, size, and what is none of the API's. Real HTTP against a script."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from pipeline.twilio.errors import DamagedResponseError, ResponseTooLargeError
from tests.support.client import WINDOW, api, error_of, listed
from tests.support.factories import body, record
from tests.support.scripted_api import Answer


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)],
)
def test_compressed_responses_are_read(encoding: str, compress: Callable[[bytes], bytes]):
    with api([Answer(compress(body([record(1)])), headers={"Content-Encoding": encoding})]) as (
        client,
        server,
    ):
        (page,) = client.pages(WINDOW)
    assert page.records == 1
    assert server.requests[0].headers["Accept-Encoding"] == "gzip"


@pytest.mark.parametrize(
    "rest",
    [b"<html>", b"\0" * 8, gzip.compress(b"[]"), b" " * 600_000],
    ids=["a page", "zeros", "another body", "blanks"],
)
def test_bytes_after_the_gzip_body_are_an_error(rest: bytes):
    """R9"""
    packed = gzip.compress(body([record(1)]))
    followed = Answer(packed + rest, headers={"Content-Encoding": "gzip"})
    assert isinstance(error_of([followed]), DamagedResponseError)


def test_unknown_compression_is_an_error():
    error = error_of([Answer(b"x", headers={"Content-Encoding": "br"})])
    assert isinstance(error, DamagedResponseError)


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:20] + b"\0\0\0" + b[23:]])
def test_damaged_compression_is_tried_again(damage: Callable[[bytes], bytes]):
    packed = gzip.compress(body([record(n) for n in range(50)]))
    broken = Answer(damage(packed), headers={"Content-Encoding": "gzip"})
    whole = Answer(packed, headers={"Content-Encoding": "gzip"})
    (page,) = listed([broken, whole])
    assert (page.records, page.attempts) == (50, 2)
    assert isinstance(error_of([broken]), DamagedResponseError)


def test_page_of_50_mb_is_an_error_naming_the_settings():
    error = error_of([Answer(b" " * 50_000_000)])
    assert isinstance(error, ResponseTooLargeError)
    assert "EMAIL_ARCHIVE_PAGE_SIZE" in str(error)
    assert "EMAIL_ARCHIVE_MAX_RESPONSE_BYTES" in str(error)


def test_page_of_50_mb_is_read_when_the_setting_allows_it():
    padded = body([record(1, padding="x" * 50_000_000)])
    (page,) = listed([Answer(padded)], max_response_bytes=60_000_000)
    assert page.records == 1


def test_gzip_bomb_is_stopped_at_the_limit():
    bomb = Answer(gzip.compress(b"\0" * 200_000_000), headers={"Content-Encoding": "gzip"})
    with api([bomb], max_response_bytes=1_000_000) as (client, _):
        tracemalloc.start()
        with pytest.raises(ResponseTooLargeError):
            list(client.pages(WINDOW))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 20_000_000
