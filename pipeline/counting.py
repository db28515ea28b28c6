"""How an account's counts are read: what has to hold before its own counts decide it.

The evidence is the mart `counting_evidence`, day by day; ``sql/counting.sql`` adds it up.
"""

from typing import Final

FEWEST_OPERATIONS: Final = 5
"""Operations that tell two readings apart: fewer may all be late or lost events."""

CLEAR_SHARE: Final = 0.9
"""The share of them that one reading needs; and the share of all operations that tell anything which its
model has to explain."""

PARTS: Final = {"fewest": str(FEWEST_OPERATIONS), "clear": str(CLEAR_SHARE)}
"""What ``sql/counting.sql`` is filled in with."""
