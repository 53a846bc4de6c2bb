"""A clock and workers whose times are known."""


class FakeClock:
    """Seconds that pass only when somebody works."""

    def __init__(self):
        self.now, self.turns = 0.0, []

    def __call__(self):
        return self.now

    def worker(self, name, seconds):
        """A function that takes these times, and the last one for ever."""
        seconds = list(seconds)

        def work():
            self.turns.append(name)
            self.now += seconds.pop(0) if len(seconds) > 1 else seconds[0]

        return work
