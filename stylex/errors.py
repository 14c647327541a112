"""The one error that users meet. Nothing heavy is imported here: doors need it before torch."""


class InputError(ValueError):
    """A mistake that the user can put right: rule, value, what to do, in one sentence.

    Every door prints the sentence alone and exits with code 2.
    """
