"""Logs of a training: a CSV table, and optionally TensorBoard or MLflow."""

import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from frostline.csv_cells import CsvWriter
from frostline.pipeline.errors import FinetuneError
from frostline.pipeline.options.learning.tuning import LogTo
from frostline.pipeline.tuning.trainer.loop import Epoch
from frostline.system.atomic import replace_file


class Logger(Protocol):
    """Receiver of the metrics of each epoch."""

    def epoch(self, epoch: Epoch) -> None:
        """Log an epoch; logging an epoch again replaces its earlier values."""

    def close(self) -> None:
        """Close the log."""


def open_logger(kind: LogTo, folder: Path, name: str, params: Mapping[str, Any]) -> Logger:
    """Open a log.

    Args:
        kind: ``tensorboard`` writes into `folder`; ``mlflow`` logs to the configured MLflow server.
        folder: Working folder of the run.
        name: Name of the run.
        params: Settings of the training.

    Raises:
        FinetuneError: The package of the kind is not installed.
    """
    try:
        return _TensorBoard(folder / "tensorboard") if kind == "tensorboard" else _MLflow(name, params)
    except ImportError as error:
        raise FinetuneError(f"--log-to {kind} needs {kind}: pip install 'frostline[{kind}]'") from error


def _numbers(epoch: Epoch) -> dict[str, float]:
    fields = dataclasses.asdict(epoch)
    return {
        name: value
        for name, value in fields.items()
        if name not in {"epoch", "frost_line"} and not math.isnan(value)
    }


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(folder)

    def epoch(self, epoch: Epoch) -> None:
        for name, value in _numbers(epoch).items():
            self._writer.add_scalar(name.replace("_", "/", 1), value, epoch.epoch)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    def __init__(self, name: str, params: Mapping[str, Any]) -> None:
        import mlflow

        self._mlflow: Any = mlflow
        self._run = mlflow.start_run(run_name=name)
        mlflow.log_params(dict(params))

    def epoch(self, epoch: Epoch) -> None:
        self._mlflow.log_metrics(_numbers(epoch), step=epoch.epoch)

    def close(self) -> None:
        self._mlflow.end_run()


def write_history(history: Sequence[Epoch], path: Path) -> None:
    """Write the metrics of each epoch as CSV; the file is replaced atomically."""
    table = io.StringIO(newline="")
    columns = [field.name for field in dataclasses.fields(Epoch)]
    CsvWriter(table, columns).write_all([getattr(epoch, name) for name in columns] for epoch in history)
    replace_file(path, table.getvalue().encode())
