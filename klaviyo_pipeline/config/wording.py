"""Wording that messages of all rooms share."""


def counted(number: int, what: str) -> str:
    """ "1 flow", "1,200 flows": `what` is a singular noun whose plural ends in s."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
