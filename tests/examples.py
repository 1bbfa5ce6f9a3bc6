"""How many examples a generated test is tried with: what it takes to be sure in the campaign, half of it otherwise."""

from hypothesis import settings


def examples(count: int) -> int:
    """For ``max_examples``: `count` where new ones are looked for (`tests/conftest.py`), the first half each time."""
    return count if settings.get_current_profile_name() == "new" else count // 2
