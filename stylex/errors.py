"""The one error that users meet. Nothing heavy is imported here: doors need it before torch."""

LONGEST = 1000  # letters of a name in a sentence


class InputError(ValueError):
    """A mistake that the user can put right: rule, value, what to do, in one sentence.

    Every door prints the sentence alone and exits with code 2.
    """


def shown(name: str) -> str:
    """A name as a sentence can hold it: what does not print is escaped, what is long is cut."""
    parts = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    text = "".join(parts)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
