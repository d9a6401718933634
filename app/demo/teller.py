"""How the demonstration speaks: numbered steps with progress bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

# Where there is no terminal there is no width to fit: wide enough that no cell of the table is cut.
NO_TERMINAL_WIDTH = 110


class Bar:
    """The progress of one step, between 0 and 1, with what is being done."""

    def __init__(self, progress: Progress | None, title: str) -> None:
        self._progress = progress
        # Without a total the bar pulses: something goes on, nobody knows how far it is.
        self._task = progress.add_task(title, total=None) if progress else None
        self._title = title

    def move(self, share: float, doing: str = "") -> None:
        """Say how much is done."""
        if self._progress and self._task is not None:
            text = f"{self._title} [dim]{doing}[/dim]" if doing else self._title
            self._progress.update(self._task, total=1.0, completed=min(max(share, 0.0), 1.0), description=text)


class Teller:
    """Tells the story and measures its steps."""

    def __init__(self, *, quiet: bool = False) -> None:
        """Speak to standard output, or not at all where the result goes to a program."""
        self.console = Console(quiet=quiet, highlight=False)
        if not self.console.is_terminal:
            self.console = Console(quiet=quiet, highlight=False, width=NO_TERMINAL_WIDTH)
        self._steps: list[tuple[float, str]] = []

    @contextmanager
    def step(self, title: str) -> Iterator[Bar]:
        """Announce a step, give its bar, and say how long it took."""
        number = len(self._steps) + 1
        started = time.monotonic()
        if self.console.is_terminal:
            with self._progress() as progress:
                yield Bar(progress, f"{number}. {title}")
        else:
            self.say(f"{number}. {title} …")
            yield Bar(None, title)
        seconds = time.monotonic() - started
        self._steps.append((seconds, title))
        self.say(f"[green]✓[/green] {number}. {title} [dim]({seconds:.1f} s)[/dim]")

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, soft_wrap=True)

    def fact(self, name: str, value: object) -> None:
        """Print a result under the current step."""
        self.console.print(f"     [dim]{name:<18}[/dim] {value}", soft_wrap=True)

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """Print a table."""
        table = Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(column, justify="right" if column in ("asked", "matches", "log2 E") else "left")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)

    def times(self) -> str:
        """Say how long everything took and which step was slowest."""
        total = sum(seconds for seconds, _ in self._steps)
        slowest_seconds, slowest = max(self._steps)
        return f"{total:.0f} s in all; the slowest step was “{slowest}” with {slowest_seconds:.0f} s"

    def _progress(self) -> Progress:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30), TimeElapsedColumn())
        return Progress(*columns, console=self.console, transient=True)
