"""Settings: where they come from, what is refused, and that secrets stay in them."""

import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import SettingsError
from pipeline.settings import ArchiveSettings, Settings, settings_table
from tests.support.users import as_nobody, needs_root

SID = "AC" + "ab" * 16
KEY = "SK" + "cd" * 16
TOKEN = "tok-3n-very-secret"


@pytest.fixture(autouse=True)
def folder_without_dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def with_token(**fields: object) -> Settings:
    return Settings.load(account_sid=SID, auth_token=TOKEN, **fields)


def refused(**fields: object) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.load(**fields)
    # R11: wherever an error of the settings is shown, it shows no secret.
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def test_defaults():
    settings = with_token()
    assert settings.api_url == "https://comms.twilio.com/v1"
    assert settings.data == Path("data")
    assert (settings.page_size, settings.concurrency) == (1000, 8)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", SID)
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("EMAIL_ARCHIVE_DATA", "/srv/archive")
    monkeypatch.setenv("EMAIL_ARCHIVE_CONCURRENCY", "9")
    settings = Settings.load()
    assert settings.basic_auth() == (SID, TOKEN)
    assert (settings.data, settings.concurrency) == (Path("/srv/archive"), 9)


def test_settings_come_from_a_dotenv_file_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / ".env").write_text(
        f"TWILIO_ACCOUNT_SID={SID}\nTWILIO_AUTH_TOKEN={TOKEN}\nEMAIL_ARCHIVE_PAGE_SIZE=7\nOTHER=1\n"
    )
    monkeypatch.setenv("EMAIL_ARCHIVE_PAGE_SIZE", "8")
    settings = Settings.load()
    assert settings.basic_auth() == (SID, TOKEN)
    assert settings.page_size == 8


def test_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TWILIO_API_KEY_SID", "")
    monkeypatch.setenv("EMAIL_ARCHIVE_PAGE_SIZE", "")
    assert with_token().page_size == 1000


def test_api_key_is_used_where_both_are_given():
    settings = with_token(api_key_sid=KEY, api_key_secret="hush")
    assert settings.basic_auth() == (KEY, "hush")
    assert settings.account_sid == SID


def test_account_is_needed_with_an_api_key_too():
    assert refused(api_key_sid=KEY, api_key_secret="hush") == (
        "TWILIO_ACCOUNT_SID is not set. "
        "Set it in the environment or in a .env file in the folder where you run this. "
        "`email-archive init` asks for the credentials and writes that file."
    )


def test_missing_credentials_name_both_ways():
    assert refused(account_sid=SID) == (
        "no credentials: expected TWILIO_AUTH_TOKEN, or TWILIO_API_KEY_SID with "
        "TWILIO_API_KEY_SECRET. Set them in the environment or in a .env file. "
        "`email-archive init` asks for the credentials and writes that file."
    )


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"api_key_sid": KEY}, "TWILIO_API_KEY_SECRET"),
        ({"api_key_secret": TOKEN}, "TWILIO_API_KEY_SID"),
    ],
)
def test_half_an_api_key_names_the_other_half(fields: dict[str, str], missing: str):
    assert refused(account_sid=SID, auth_token=TOKEN, **fields).startswith(f"{missing} is not set")


@pytest.mark.parametrize(
    "value",
    [TOKEN, "AC" + "AB" * 16, SID + "0", SID[:-1], "../" + SID, SID + "\n", "AC" + "g" * 32],
)
def test_malformed_account_is_described_and_not_quoted(value: str):
    """R11: a secret in the wrong variable must not be shown; the SID becomes a folder's name."""
    message = refused(account_sid=value, auth_token=TOKEN)
    assert message.startswith(
        "TWILIO_ACCOUNT_SID is malformed: expected AC and 32 lower-case hex digits; "
        f"got a text of {len(value)} characters"
    )
    assert value not in message


def test_malformed_key_is_described_and_not_quoted():
    message = refused(account_sid=SID, api_key_sid=TOKEN, api_key_secret="x")
    assert message.startswith("TWILIO_API_KEY_SID is malformed: expected SK and 32")
    assert TOKEN not in message


def test_every_problem_is_named_in_one_message():
    message = refused(page_size=0, concurrency="many", read_timeout=-1)
    for variable in (
        "TWILIO_ACCOUNT_SID is not set",
        "EMAIL_ARCHIVE_PAGE_SIZE is malformed",
        "EMAIL_ARCHIVE_CONCURRENCY is malformed",
        "EMAIL_ARCHIVE_READ_TIMEOUT is malformed",
    ):
        assert variable in message


@pytest.mark.parametrize("size", [0, 1001, "1.5"])
def test_page_size_is_the_apis_1_to_1000(size: object):
    assert "EMAIL_ARCHIVE_PAGE_SIZE is malformed" in refused(
        account_sid=SID, auth_token=TOKEN, page_size=size
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://proxy.example/v1/",
        "http://127.0.0.1:8790/v1",
        "http://localhost:8790/v1",
        "http://[::1]:8790/v1",
        "http://127.9.9.9/v1",
    ],
)
def test_https_and_loopback_http_are_accepted(url: str):
    assert with_token(api_url=url).api_url == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://comms.twilio.com/v1", "expected https"),
        ("http://127.0.0.1.example/v1", "expected https"),
        ("http://10.0.0.1/v1", "expected https"),
        ("http://0.0.0.0/v1", "expected https"),
        ("comms.twilio.com/v1", "expected a URL like"),
        ("ftp://comms.twilio.com", "expected a URL like"),
        ("https://", "expected a URL like"),
        ("https://host:99999/v1", "expected a URL like"),
        ("https://user:tok-3n-very-secret@host/v1", "without user, password"),
        ("https://host/v1?a=b", "without user, password"),
    ],
)
def test_url_exposing_credentials_or_malformed_is_refused(url: str, message: str):
    """R11: credentials go over https, or to this machine."""
    found = refused(account_sid=SID, auth_token=TOKEN, api_url=url)
    assert found.startswith("EMAIL_ARCHIVE_API_URL is malformed")
    assert message in found


def test_no_secret_is_shown():
    """R11"""
    settings = with_token(api_key_sid=KEY, api_key_secret="hush-hush")
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert TOKEN not in shown
    assert "hush-hush" not in shown


def test_environment_gives_another_process_the_same_settings(monkeypatch: pytest.MonkeyPatch):
    settings = with_token(api_key_sid=KEY, api_key_secret="hush", read_timeout=2.5, data="there")
    for variable, value in settings.environment().items():
        monkeypatch.setenv(variable, value)
    assert Settings.load() == settings


def test_settings_can_be_sent_to_another_process():
    assert pickle.loads(pickle.dumps(with_token())) == with_token()  # noqa: S301 - our own bytes


def test_reading_the_archive_needs_no_credentials():
    assert ArchiveSettings.load(data="there").data == Path("there")


def test_every_setting_has_a_meaning_in_the_table():
    rows = settings_table()
    assert [variable for variable, _, _ in rows] == list(Settings.variables().values())
    assert all(meaning.endswith(".") for _, _, meaning in rows)


# The .env file, and names that are none.


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.name.startswith("pipeline.")]


@needs_root
def test_unreadable_env_file_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """As of a command that another user runs from root's folder."""
    (tmp_path / ".env").write_text("EMAIL_ARCHIVE_DATA=there\n")
    tmp_path.chmod(0o700)

    data, heard = as_nobody(lambda: (ArchiveSettings.load().data, warnings_of(caplog)))
    assert data == Path("data")
    (warning,) = heard
    assert warning.startswith(f".env is ignored: {tmp_path}/.env: Permission denied")
    assert "belongs to root" in warning
    assert warning.endswith("and this runs as nobody")


def test_binary_env_file_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / ".env").write_bytes(b"EMAIL_ARCHIVE_DATA=caf\xe9\n")
    assert ArchiveSettings.load().data == Path("data")
    assert warnings_of(caplog) == [f"{tmp_path}/.env is ignored: expected text in UTF-8"]


def test_folder_in_the_place_of_the_env_file_is_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / ".env").mkdir()
    assert ArchiveSettings.load().data == Path("data")
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("where", ["environment", "file"])
def test_misspelt_setting_is_named_with_the_likely_one(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    misspelt = {"EMAIL_ARCHIVE_CONCURENCY": "2", "EMAIL_ARCHIVE_ZZZ": "1", "TWILIO_OTHER": "x"}
    if where == "file":
        lines = [f"{name}={value}\n" for name, value in misspelt.items()]
        (tmp_path / ".env").write_text("".join(lines))
    else:
        for name, value in misspelt.items():
            monkeypatch.setenv(name, value)
    ArchiveSettings.load()
    assert warnings_of(caplog) == [
        "EMAIL_ARCHIVE_CONCURENCY is not a setting and is ignored; is EMAIL_ARCHIVE_CONCURRENCY meant?",
        "EMAIL_ARCHIVE_ZZZ is not a setting and is ignored",
    ]


def test_existing_settings_cause_no_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("EMAIL_ARCHIVE_PAGE_SIZE", "100")
    monkeypatch.setenv("email_archive_data", "there")
    assert ArchiveSettings.load().data == Path("there")
    assert warnings_of(caplog) == []


@pytest.mark.parametrize(
    ("old", "new", "field", "value"),
    [
        ("RETRY_SECONDS", "RETRY_MAX_WAIT", "retry_max_wait", 7),
        ("MAX_ANSWER_BYTES", "MAX_RESPONSE_BYTES", "max_response_bytes", 2048),
        ("LOOKUP_SECONDS", "LOOKUP_TIMEOUT", "lookup_timeout", 7),
        ("REFRESH", "REFRESH_INTERVALS", "refresh_intervals", "2h:5m,7d:1h"),
        ("OPERATION_ERRORS", "FETCH_OPERATION_ERRORS", "fetch_operation_errors", False),
    ],
)
def test_old_name_works_with_a_warning(  # noqa: PLR0917 - fixtures and a table
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    old: str,
    new: str,
    field: str,
    value: object,
):
    monkeypatch.setenv(f"EMAIL_ARCHIVE_{old}", str(value))
    settings = Settings.load(account_sid=SID, auth_token=TOKEN)
    assert getattr(settings, field) == value
    assert warnings_of(caplog) == [
        f"EMAIL_ARCHIVE_{old} is deprecated: use EMAIL_ARCHIVE_{new}",
    ]


@pytest.mark.parametrize("make", [Settings, Settings.load])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("refresh", "; is refresh_intervals meant?"),
        ("lookup_seconds", "; is lookup_timeout meant?"),
        ("page_sise", "; is page_size meant?"),
        ("zzz", ""),
    ],
)
def test_unknown_argument_is_an_error_naming_the_likely_field(
    make: Callable[..., Settings], name: str, hint: str
):
    with pytest.raises(SettingsError) as caught:
        make(account_sid=SID, auth_token=TOKEN, **{name: "1"})
    assert str(caught.value) == f"{name} is not a field of Settings{hint}"


def test_argument_may_be_named_as_its_variable():
    settings = Settings(TWILIO_ACCOUNT_SID=SID, TWILIO_AUTH_TOKEN=TOKEN, _env_file=None)
    assert settings.account_sid == SID


@pytest.mark.parametrize(("text", "mode"), [("0600", 0o600), ("640", 0o640), ("0644", 0o644)])
def test_file_mode_is_octal(text: str, mode: int):
    assert ArchiveSettings.load(file_mode=text).mode == mode


@pytest.mark.parametrize("text", ["0666", "rw", "0400", "0740", "-1", "00640"])
def test_file_mode_writable_by_others_or_malformed_is_refused(text: str):
    with pytest.raises(SettingsError, match="EMAIL_ARCHIVE_FILE_MODE is malformed: expected 0600"):
        ArchiveSettings.load(file_mode=text)
