"""When what did not arrive is sent again: soon, then ever later, for about a day.

Source: Standard Webhooks 1.0, "Deliverability and reliability", whose example this shortens.
"""

from datetime import datetime, timedelta

from app.canonical import sha256, u32

# After the first attempt, after the second, ...: 25 hours and 35 minutes in all.
WAITS = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=8),
    timedelta(hours=10),
)
MAX_ATTEMPTS = len(WAITS) + 1

# A wait is up to a fifth longer, so that what failed together does not come back together.
JITTER = 0.2

# How long a receiver that failed is left alone, whatever else waits for it; doubles with each failure in a row.
FIRST_PAUSE, LAST_PAUSE = timedelta(seconds=2), timedelta(minutes=5)


def next_attempt_at(attempts: int, message: bytes, now: datetime) -> datetime | None:
    """Say when a message is tried again after so many attempts; None: not any more."""
    if attempts >= MAX_ATTEMPTS:
        return None
    share = int.from_bytes(sha256(message + u32(attempts))[:4], "big") / 2**32
    return now + WAITS[attempts - 1] * (1 + JITTER * share)


def pause_after(failures_in_a_row: int) -> timedelta:
    """Say how long a receiver is left alone after so many failures."""
    doublings = min(failures_in_a_row - 1, 20)
    return min(FIRST_PAUSE * (1 << doublings), LAST_PAUSE)
