"""Sources of images with one defect each."""

import dataclasses
import os
import threading
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from frostline.features.table import ImageTable, make_stamp
from frostline.testing import ImageSourceContract, encode, photo
from tests.helpers.sources import DigestSource

NUMBERS = count()
OPENED = []


class Pictures(ImageSourceContract):
    """A subclass gives a class of sources, made from a dictionary of bytes by id."""

    SOURCE = DigestSource
    fails = frozenset()

    @pytest.fixture
    def files(self):
        return {f"{'ab'[n % 2]}/{n}.png": encode(photo(12, 10, seed=n)) for n in range(6)}

    @pytest.fixture
    def source(self, files):
        yield self.SOURCE(dict(files))
        while OPENED:
            os.close(OPENED.pop())

    def reopened(self, source):
        return self.SOURCE(source.files)

    def write(self, source, row, data):
        source.files[source.table.ids[row].decode()] = data

    def remove(self, source, row):
        del source.files[source.table.ids[row].decode()]


class TestWithoutDefect(Pictures):
    pass


class Short(DigestSource):
    def __init__(self, files):
        super().__init__(files)
        self.table = dataclasses.replace(self.table, labels=self.table.labels.astype(np.int32))


class TestLabelsOf32Bits(Pictures):
    SOURCE = Short
    fails = frozenset({"test_table_has_the_promised_shapes_and_types"})


class Backwards(DigestSource):
    def __init__(self, files):
        super().__init__(files)
        self.table = self.table.take(slice(None, None, -1))


class TestIdsInAnotherOrder(Pictures):
    SOURCE = Backwards
    fails = frozenset({"test_ids_are_unique_utf8_and_sorted_by_their_bytes"})


class FromOne(DigestSource):
    def __init__(self, files):
        super().__init__(files)
        self.table = dataclasses.replace(self.table, labels=self.table.labels + 1)


class TestLabelsFromOne(Pictures):
    SOURCE = FromOne
    fails = frozenset({"test_labels_and_splits_have_names"})


class Stampless(DigestSource):
    def read(self, row):
        data, _ = super().read(row)
        return data, make_stamp(len(data), 0)


class TestReadGivesAnotherStamp(Pictures):
    SOURCE = Stampless
    fails = frozenset({"test_reads_the_bytes_of_each_image_with_the_stamp_that_was_listed"})


class OneAtATime(DigestSource):
    lock = threading.Lock()

    def read(self, row):
        if not self.lock.acquire(blocking=False):
            return b"", make_stamp(0, 0)
        try:
            time.sleep(0.01)
            return super().read(row)
        finally:
            self.lock.release()


class TestOneThread(Pictures):
    SOURCE = OneAtATime
    fails = frozenset({"test_reads_in_several_threads"})


class Counted(DigestSource):
    def __init__(self, files):
        super().__init__(files)
        stamps = self.table.stamps.copy()
        stamps[:, 8] = next(NUMBERS) % 256
        self.table = dataclasses.replace(self.table, stamps=stamps)


class TestStampsOfEachListing(Pictures):
    SOURCE = Counted
    fails = frozenset({"test_stamps_of_unchanged_images_are_equal"})


class Remembering(DigestSource):
    def read(self, row):
        return super().read(row)[0], self.table.stamps[row].tobytes()


class TestStampOfTheListing(Pictures):
    SOURCE = Remembering
    fails = frozenset({"test_stamp_of_a_changed_image_is_another"})


class Sizeless(DigestSource):
    def __init__(self, files):
        super().__init__(files)
        stamps = self.table.stamps.copy()
        stamps[:, :8] = 0
        self.table = dataclasses.replace(self.table, stamps=stamps)


class TestStampsWithoutSize(Pictures):
    SOURCE = Sizeless
    fails = frozenset({"test_stamps_begin_with_the_sizes_of_the_images"})


class Doubting(DigestSource):
    def unsettled(self, _since):
        return np.ones(len(self.table), bool)


class TestAlwaysInDoubt(Pictures):
    SOURCE = Doubting
    fails = frozenset({"test_stamps_are_conclusive_for_images_that_were_not_changed_lately"})


class Keyed(DigestSource):
    def read(self, row):
        return self.files[self.table.ids[row].decode()], super().read(row)[1]


class TestMissingImageIsAKeyError(Pictures):
    SOURCE = Keyed
    fails = frozenset({"test_an_image_that_is_gone_is_an_os_error"})


class Nameless(DigestSource):
    def display_name(self, _row):
        return "image"


class TestOneNameForAll(Pictures):
    SOURCE = Nameless
    fails = frozenset({"test_names_shown_to_users_tell_images_apart"})


class Elsewhere(DigestSource):
    def path(self, _row):
        return Path(__file__)


class TestPathOfAnotherFile(Pictures):
    SOURCE = Elsewhere
    fails = frozenset({"test_path_of_an_image_is_that_of_a_file_with_its_bytes_or_none"})


class OwnTable(ImageTable):
    def take(self, rows):
        return dataclasses.replace(super().take(rows), classes=())


class OwnClasses(DigestSource):
    def __init__(self, files):
        super().__init__(files)
        self.table = OwnTable(**vars(self.table))


class TestTableThatLosesItsClasses(Pictures):
    SOURCE = OwnClasses
    fails = frozenset({"test_table_of_some_rows_has_the_columns_of_these"})


class Locked(DigestSource):
    def __init__(self, files):
        super().__init__(files)
        self.lock = threading.Lock()


class TestNoPickle(Pictures):
    SOURCE = Locked
    fails = frozenset({"test_pickles_for_worker_processes"})


class Leaking(DigestSource):
    def read(self, row):
        OPENED.append(os.open(__file__, os.O_RDONLY))
        return super().read(row)


class TestFilesStayOpen(Pictures):
    SOURCE = Leaking
    fails = frozenset({"test_closing_releases_every_file_and_can_be_repeated"})
