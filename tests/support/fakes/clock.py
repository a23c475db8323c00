"""A clock in the hands of a test."""


class Clock:
    """It stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
