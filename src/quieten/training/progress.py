"""What a run shows and writes down: a progress bar, CSV files, TensorBoard if installed."""

import csv
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class CsvLog:
    """Rows of (step, values). On resume, rows from `first_step` on are written anew."""

    def __init__(self, path: Path, first_step: int) -> None:
        self.path = path
        rows = []
        if path.exists():
            with path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) < first_step]
            path.unlink()
        for row in rows:
            self.append(row)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one row."""
        self.append({"step": str(step)} | {k: f"{v:.6g}" for k, v in values.items()})

    def append(self, row: Mapping[str, str]) -> None:
        """Writes a row, and the header before the first."""
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)


class Board:
    """Scalars for TensorBoard."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        writer: Any = SummaryWriter  # typed or not, as tensorboard is installed or not
        self.writer = writer(str(folder))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one point to each curve."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)


def tensorboard_writer(folder: Path) -> Board | None:
    """Returns a writer where tensorboard is installed, else None."""
    try:
        return Board(folder)
    except ImportError:
        return None


class Progress:
    """A bar with steps per second and time left on stderr; plain lines where it is no terminal."""

    def __init__(self, total: int, first_step: int, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.task = self.bar.add_task("training", total=total, completed=first_step, speed="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def advance(self, losses: Mapping[str, float]) -> None:
        """Counts one step."""
        speed = self.bar.tasks[self.task].finished_speed or self.bar.tasks[self.task].speed
        text = f"{speed:.2f} steps/s" if speed else ""
        self.bar.update(self.task, advance=1, speed=text)

    def note(self, step: int, scores: Mapping[str, float]) -> None:
        """Prints the scores of a validation."""
        text = "  ".join(f"{name} {value:.3f}" for name, value in scores.items())
        self.console.print(f"step {step}: {text}", highlight=False)
