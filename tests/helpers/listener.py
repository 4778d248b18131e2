"""A reporter that remembers what it was told."""

from frostline.pipeline.progress import SILENT


class Listener:
    """Keeps notes and warnings, and shows no progress."""

    def __init__(self):
        self.notes, self.warnings = [], []
        self.note, self.warn = self.notes.append, self.warnings.append
        self.task = SILENT.task
