"""The reading of an account's counts, and its evidence."""

from pipeline.model.schema.table import ACCOUNT_ID, Table, flag, integer, number, text

READING = (
    text(
        "reading",
        "The reading of the account's counts: cumulative (`delivered` includes opened emails) or exclusive "
        "(it does not). See counting for the evidence.",
    ),
    flag(
        "reading_decided",
        "Whether the account's counts decide this reading. If not, it is assumed as in the reference's "
        "samples; the rates under the other reading would differ.",
    ),
)

COUNTING_EVIDENCE = Table(
    "counting_evidence",
    "mart",
    "One row per account, day and set of models that explain an operation's counts",
    "Operations whose counts only some models explain (see counting). Operations that every model explains "
    "or that lack a count are not included.",
    (
        text(
            "models",
            "The models that explain the counts, separated by spaces; empty if none does. cumulative: an "
            "email stays in each count that it entered. opened_apart: opened emails leave delivered. "
            "delivered_apart: delivered and undelivered emails leave sent. exclusive: both.",
        ),
        integer("operations", "operations", "Operations with such counts."),
        text("example", "The id of the first one."),
    ),
)

COUNTING = Table(
    "counting",
    "warehouse",
    "One row per account and question",
    "The reading of the account's counts and its evidence: how many operations have counts that only one "
    "reading explains.",
    (
        ACCOUNT_ID,
        text(
            "question",
            "opened_in_delivered: does `delivered` include opened emails? delivered_in_sent: does `sent` "
            "include delivered emails?",
        ),
        text(
            "reading",
            "cumulative (it does) or exclusive (it does not): used by delivery_rate and open_rate.",
        ),
        flag(
            "decided",
            "Whether the account's counts decide, by a clear majority. If not, cumulative is assumed, as in"
            " the reference's samples.",
        ),
        text("evidence", "The evidence in one sentence."),
        integer(
            "cumulative_operations",
            "operations",
            "Operations whose counts are possible if cumulative, and not if exclusive.",
        ),
        integer(
            "exclusive_operations",
            "operations",
            "Operations whose counts are possible if exclusive, and not if cumulative.",
        ),
        number(
            "majority",
            "ratio",
            "Share of the likelier reading among the two; NULL if there is no such operation.",
            nullable=True,
        ),
        integer(
            "unexplained_operations",
            "operations",
            "Operations whose counts contradict the likeliest answers to both questions.",
        ),
        text(
            "cumulative_example",
            "The id of an operation that is evidence for cumulative.",
            nullable=True,
        ),
        text(
            "exclusive_example",
            "The id of an operation that is evidence for exclusive.",
            nullable=True,
        ),
    ),
)
