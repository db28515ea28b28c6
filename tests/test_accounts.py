"""Accounts: where they come from, what is refused, which are chosen; secrets are in no message (R11)."""

import traceback
from datetime import datetime
from pathlib import Path

import pytest

from pipeline.accounts import Account, chosen, load_accounts, remember
from pipeline.errors import SettingsError, UsageError
from pipeline.lake.accounts import KnownAccount, read_accounts, resume, retire, retired_accounts
from pipeline.lake.layout import Lake, LakeError
from tests.support.factories import ACCOUNT, NOON, OTHER_ACCOUNT

TOKEN = "tok-3n-very-secret"
KEY = "SK" + "cd" * 16


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARKETING_TOKEN", TOKEN)
    return tmp_path


def configured(*entries: str) -> tuple[Account, ...]:
    Path("email-archive.toml").write_text("\n".join(f"[[accounts]]\n{entry}" for entry in entries))
    return load_accounts()


def refused(*entries: str) -> str:
    with pytest.raises(SettingsError) as caught:
        configured(*entries)
    shown = "".join(traceback.format_exception(caught.value))
    assert TOKEN not in shown
    assert "AB" * 16 not in shown
    return str(caught.value)


def entry(sid: str = ACCOUNT, **fields: str) -> str:
    fields = {"auth_token_env": "MARKETING_TOKEN"} | fields
    return "\n".join([f'sid = "{sid}"', *(f'{key} = "{value}"' for key, value in fields.items())])


MARKETING = entry(name="marketing")
RECEIPTS = f"""
sid = "{OTHER_ACCOUNT}"
name = "receipts"
api_url = "http://127.0.0.1:1/v1"
api_key_sid = "{KEY}"
api_key_secret_file = "secrets/receipts"
"""


def test_variables_make_one_account(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", ACCOUNT)
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", TOKEN)
    (only,) = load_accounts(data=Path("elsewhere"))
    assert (only.sid, only.name, only.is_active) == (ACCOUNT, ACCOUNT, True)
    assert only.settings
    assert only.settings.basic_auth() == (ACCOUNT, TOKEN)
    assert only.settings.data == Path("elsewhere")


def test_no_account_at_all_names_the_variables():
    with pytest.raises(SettingsError, match="TWILIO_ACCOUNT_SID is not set"):
        load_accounts()


def test_file_gives_each_account_its_own_settings(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """R12: no variable of another account fills in what an entry lacks; what they share is the same."""
    monkeypatch.setenv("TWILIO_API_KEY_SID", KEY)
    monkeypatch.setenv("TWILIO_API_KEY_SECRET", "of another account")
    monkeypatch.setenv("EMAIL_ARCHIVE_CONCURRENCY", "3")
    (folder / "secrets").mkdir()
    (folder / "secrets/receipts").write_text("hush\n")
    first, second = configured(MARKETING, RECEIPTS)
    assert first.settings
    assert second.settings
    assert (first.name, second.name) == ("marketing", "receipts")
    assert first.settings.basic_auth() == (ACCOUNT, TOKEN)
    assert second.settings.basic_auth() == (KEY, "hush")
    assert second.settings.api_url == "http://127.0.0.1:1/v1"
    assert first.settings.api_url == "https://comms.twilio.com/v1"
    assert first.settings.concurrency == second.settings.concurrency == 3
    assert TOKEN not in f"{first!r}{second!r}"  # R11


def test_variable_names_the_file(monkeypatch: pytest.MonkeyPatch):
    Path("other.toml").write_text(f"[[accounts]]\n{MARKETING}")
    monkeypatch.setenv("EMAIL_ARCHIVE_CONFIG", "other.toml")
    assert [one.name for one in load_accounts()] == ["marketing"]
    monkeypatch.setenv("EMAIL_ARCHIVE_CONFIG", "missing.toml")
    with pytest.raises(SettingsError, match=r"missing\.toml is not there.* EMAIL_ARCHIVE_CONFIG"):
        load_accounts()
    Path("folder").mkdir()
    monkeypatch.setenv("EMAIL_ARCHIVE_CONFIG", "folder")
    with pytest.raises(SettingsError, match="folder is a folder: expected the TOML file"):
        load_accounts()


def test_dangling_link_is_no_missing_configuration():
    Path("email-archive.toml").symlink_to("gone.toml")
    with pytest.raises(SettingsError, match="a link to a file that does not exist"):
        load_accounts()


def test_dotenv_file_can_have_the_secrets(folder: Path):
    (folder / ".env").write_text("RECEIPTS_TOKEN=from-dotenv\n")
    (only,) = configured(entry(auth_token_env="RECEIPTS_TOKEN"))
    assert only.settings
    assert only.settings.basic_auth() == (ACCOUNT, "from-dotenv")


@pytest.mark.parametrize("key", ["auth_token", "api_key_secret"])
def test_secret_in_the_file_is_refused(key: str):
    """R11"""
    assert f"{key} does not belong in this file" in refused(entry(**{key: TOKEN}))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (entry(sid=TOKEN), "accounts[0].sid: expected AC and 32"),
        (entry(nmae="x"), "accounts[0].nmae: unknown; is name meant? Expected sid, name"),
        (entry(name="two words"), "accounts[0].name: expected up to 40 letters"),
        (entry(name="AB" * 16), "accounts[0].name: 32 hex digits look like an auth token"),
        (entry(active="maybe"), "accounts[0].active: expected true or false"),
        ("sid = 3", "accounts[0].sid: expected a text in quotes"),
        ('name = "x"', "accounts[0].sid: missing; expected AC and 32"),
        (f'sid = "{ACCOUNT}"\nauth_token_file = 3', "auth_token_file: expected the path of a file"),
        (entry(auth_token_file="x"), "expected auth_token_env or auth_token_file, and not both"),
        (f'sid = "{ACCOUNT}"', "expected auth_token_env or auth_token_file, or api_key_sid with"),
        (entry(api_key_sid=KEY), "or api_key_sid with api_key_secret_env"),
        (entry(api_key_sid=TOKEN), "accounts[0].api_key_sid: expected SK and 32"),
        (entry(api_url="http://example.com"), "accounts[0].api_url: expected https"),
        ("sid = ", "expected TOML in UTF-8"),
        (f"{MARKETING}\n[[acounts]]", "acounts: unknown; is accounts meant? Expected accounts"),
    ],
)
def test_what_is_wrong_is_named_without_its_value(text: str, problem: str):
    """R11: a secret in the wrong place must not be shown."""
    assert problem in refused(text)


def test_everything_wrong_is_in_one_message():
    message = refused(entry(sid="x", nmae="x"), entry(name="two words"))
    assert [f"accounts[{n}]" in message for n in (0, 1, 2)] == [True, True, False]
    assert message.count("\n- ") == 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (entry(auth_token_env=TOKEN), "the variable that auth_token_env names is not set"),
        (f'sid = "{ACCOUNT}"\nauth_token_file = "{TOKEN}"', "No such file"),
        (entry(auth_token_env="M_TOKEN"), "M_TOKEN, which auth_token_env names, is not set"),
        (
            f'sid = "{ACCOUNT}"\nauth_token_file = "m/token"',
            "m/token, which auth_token_file names, can't be read: No such file",
        ),
    ],
)
def test_missing_credentials_are_the_error_of_their_account_alone(text: str, problem: str):
    """R11, R12"""
    first, second = configured(text, entry(OTHER_ACCOUNT))
    assert (first.is_active, first.settings) == (True, None)
    assert problem in str(first.error)
    assert TOKEN not in repr(first)
    assert second.settings
    assert second.error is None


def test_sids_and_names_are_unique():
    assert f"the SID {ACCOUNT} is there 2 times" in refused(MARKETING, entry())
    twice = refused(MARKETING, entry(OTHER_ACCOUNT, name="marketing"))
    assert "the name marketing is there 2 times" in twice


@pytest.mark.parametrize("text", ["", "accounts = 3", "accounts = []"])
def test_file_without_accounts_says_what_is_expected(text: str):
    Path("email-archive.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"accounts: expected one \[\[accounts\]\] or more"):
        load_accounts()


def test_inactive_account_needs_no_credentials():
    first, second = configured(MARKETING, f'sid = "{OTHER_ACCOUNT}"\nactive = false')
    assert first.is_active
    assert (second.is_active, second.settings) == (False, None)


def test_accounts_are_chosen_by_sid_or_name():
    accounts = configured(MARKETING, entry(OTHER_ACCOUNT))
    assert chosen(accounts, []) == accounts
    assert chosen(accounts, [OTHER_ACCOUNT]) == accounts[1:]
    assert chosen(accounts, [OTHER_ACCOUNT, "marketing", ACCOUNT]) == accounts
    with pytest.raises(UsageError, match=rf"'sales'.* marketing \({ACCOUNT}\), {OTHER_ACCOUNT}"):
        chosen(accounts, ["sales"])


def test_lake_remembers_names_and_who_is_retired(folder: Path):
    lake = Lake(folder / "data").open()
    inactive = f'sid = "{OTHER_ACCOUNT}"\nname = "old"\nactive = false'
    remember(lake, configured(MARKETING, inactive), NOON)
    assert [(one.name, one.retired_at) for one in read_accounts(lake).values()] == [
        ("marketing", None),
        ("old", NOON),
    ]
    later = datetime.fromisoformat("2027-01-01T00:00:00Z")
    remember(lake, configured(MARKETING, inactive), later)
    assert read_accounts(lake)[OTHER_ACCOUNT].retired_at == NOON
    remember(lake, configured(MARKETING, entry(OTHER_ACCOUNT)), later)
    assert retired_accounts(lake) == set()


def test_account_retired_by_command_stays_so_until_resumed(folder: Path):
    lake = Lake(folder / "data").open()
    remember(lake, configured(MARKETING), NOON)
    retire(lake, read_accounts(lake)[ACCOUNT], NOON)
    accounts = configured(entry(name="marketing", auth_token_env="GONE"))
    assert [(one.is_active, one.settings) for one in accounts] == [(False, None)]
    remember(lake, accounts, NOON)
    assert retired_accounts(lake) == {ACCOUNT}
    resume(lake, read_accounts(lake)[ACCOUNT])
    assert read_accounts(lake) == {ACCOUNT: KnownAccount(ACCOUNT, "marketing")}
    assert configured(MARKETING)[0].is_active


@pytest.mark.parametrize("text", ["{", "[]", '{"x": {}}', f'{{"{ACCOUNT}": {{"name": "x"}}}}'])
def test_damaged_note_of_accounts_only_refuses_to_retire(
    folder: Path, text: str, caplog: pytest.LogCaptureFixture
):
    lake = Lake(folder / "data").open()
    (lake.root / "accounts.json").write_text(text)
    assert read_accounts(lake) == {}
    assert "the next sync writes a new one" in caplog.text
    assert configured(MARKETING)[0].is_active
    remember(lake, configured(MARKETING), NOON)
    for change in (lambda one: retire(lake, one, NOON), lambda one: resume(lake, one)):
        with pytest.raises(LakeError, match="the next sync writes a new one"):
            change(KnownAccount(ACCOUNT, "marketing"))
    assert (lake.root / "accounts.json").read_text() == text
