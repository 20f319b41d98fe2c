"""Why names are not given, for people: what, why, and what to do."""


class NamesUnavailable(OSError):
    """Something of the system is not as it would have to be. `remedy` says what a person can do about it."""

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(f"{what}: {why}")
        self.remedy = remedy
