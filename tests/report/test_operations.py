"""Lists of operations and reasons in the report."""

from pipeline.report.operations import Bands, by_period


def test_reason_with_different_messages_is_said_to_have_several():
    """Each account's only message is another one."""
    failures = [
        {
            "account_id": account,
            "band": 1,
            "code": "60301",
            "reason": "",
            "message": message,
            "messages": 1,
            "operations": 2,
            "occurrences": 3,
        }
        for account, message in (("AC1", "to a@example.com"), ("AC2", "to b@example.com"))
    ]
    (reason,) = by_period(Bands([], failures), ["AC1", "AC2"])["7"].reasons
    assert (reason["operations"], reason["occurrences"], reason["messages"]) == (4, 6, 2)
    (alone,) = by_period(Bands([], failures), ["AC2"])["7"].reasons
    assert alone["messages"] == 1
