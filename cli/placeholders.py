"""Words that stand for a value in hints and pages: whoever types them as they stand has not said anything yet."""

from typing import Final

from archive.errors import UsageError

_STAND_FOR: Final = {
    "PROJECT": "the name of a project",
    "SUBJECT": "the name of a subject",
    "LABEL": "a session label",
    "WHY": "your reason",
}


def verify_filled_in(**values: str | None) -> None:
    """Refuse ``--project PROJECT`` and the like; each value under the name of its option.

    Raises
    ------
    UsageError
        A value is a placeholder, with or without its angle brackets.
    """
    for option, value in values.items():
        word = (value or "").strip().removeprefix("<").removesuffix(">")
        if word in _STAND_FOR:
            raise UsageError(
                f"{word} stands for {_STAND_FOR[word]}: put that in its place.",
                hint="prearc session list   (shows the names in use)"
                if word != "WHY"
                else f"--{option} 'why it is so'",
            )
