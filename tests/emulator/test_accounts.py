"""Several emulated accounts at one address: each with credentials, a world and faults of its own."""

import re
import subprocess
import sys
import tomllib

import httpx2
import pytest

from pipeline.emulator import Clock, Faults, Options, World, running
from pipeline.emulator.accounts import EmulatedAccount, worlds
from pipeline.errors import UsageError
from tests.support.factories import at

START, NOW = at("2026-11-18"), at("2026-11-20 15:00")
MARKETING, RECEIPTS = (EmulatedAccount.parse(text) for text in ("marketing=300", "receipts=200"))


def ids(http: httpx2.Client, url: str, account: EmulatedAccount) -> set[str]:
    answer = http.get(f"{url}/Emails/Operations", auth=(account.sid, account.auth_token))
    assert answer.status_code == 200
    return {record["id"] for record in answer.json()["operations"]}


def test_each_account_sees_its_own_world_and_faults():
    """R12 can be tested: one account is throttled, the other is not."""
    script = Faults(script=["429"])
    options = [Options(account_sid=a.sid, auth_token=a.auth_token) for a in (MARKETING, RECEIPTS)]
    throttled = Options(account_sid="AC" + "1" * 32, auth_token="t", faults=script)
    served = worlds((MARKETING, RECEIPTS), World(1, 1.0, START))
    with (
        running(
            served[0],
            clock=Clock(NOW),
            options=options[0],
            others=[(served[1], options[1]), (served[1], throttled)],
        ) as emulator,
        httpx2.Client() as http,
    ):
        first, second = (ids(http, emulator.url, one) for one in (MARKETING, RECEIPTS))
        assert first
        assert second
        assert not first & second
        listing = f"{emulator.url}/Emails/Operations"
        assert http.get(listing, auth=(throttled.account_sid, "t")).status_code == 429
        for refused in [(MARKETING.sid, RECEIPTS.auth_token), ("AC" + "2" * 32, "t"), None]:
            assert http.get(listing, auth=refused).status_code == 401
        operation = f"{listing}/{next(iter(first))}"
        assert http.get(operation, auth=(MARKETING.sid, MARKETING.auth_token)).status_code == 200
        assert http.get(operation, auth=(RECEIPTS.sid, RECEIPTS.auth_token)).status_code == 404


def test_command_prints_a_working_configuration():
    command = [sys.executable, "-m", "pipeline.cli", "emulate", "--port", "0", "--rate", "0"]
    command += ["--now", "2026-11-20 15:00:00"]
    command += ["--account", "marketing=300", "--account", "receipts=200,exclusive"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = []
        while not lines or "TRUST_CLOCK" not in lines[-1]:
            lines.append(process.stdout.readline())
        told = "".join(lines)
        match = re.search(r"<<'END'\n(.*?)^END$", told, re.DOTALL | re.MULTILINE)
        assert match
        accounts = tomllib.loads(match[1])["accounts"]
        variables = dict(re.findall(r"^export (\w+)=(\S+)$", told, re.MULTILINE))
        assert [one["name"] for one in accounts] == ["marketing", "receipts"]
        with httpx2.Client() as http:
            for one in accounts:
                auth = (one["sid"], variables[one["auth_token_env"]])
                answer = http.get(f"{one['api_url']}/Emails/Operations", auth=auth)
                assert answer.status_code == 200
        process.terminate()


@pytest.mark.parametrize("text", ["x", "x=", "x=0", "=1", "x=1,other", "a b=1", "x=1,"])
def test_malformed_account_is_refused(text: str):
    with pytest.raises(UsageError, match="NAME=PER_DAY"):
        EmulatedAccount.parse(text)
