"""Exporters with one defect each."""

import dataclasses
import io
import json

import numpy as np
import pytest

from frostline.pipeline.exporting import export_cache as stage
from frostline.pipeline.exporting.exporters import EXPORTERS
from frostline.testing import ExporterContract
from tests.pipeline.exporting.test_contract import TestNpz as _Npz

PLAIN = EXPORTERS["npz"]
KEPT = []


def changing(change):
    """The exporter of npz, whose arrays are changed afterwards."""

    def write(export, file):
        whole = io.BytesIO()
        PLAIN.write(export, whole)
        whole.seek(0)
        with np.load(whole) as found:
            arrays = dict(found)
        change(arrays)
        np.savez(file, **arrays)

    return dataclasses.replace(PLAIN, write=write)


class Declared(ExporterContract):
    name = "broken"
    fails = frozenset()
    read = _Npz.read

    def __init_subclass__(cls):
        for name in vars(ExporterContract):  # the others take long, and pass
            if name.startswith("test_") and cls.fails and name not in cls.fails:
                setattr(cls, name, None)

    @pytest.fixture(autouse=True)
    def _declared(self, declare):
        declare("frostline.exporters", broken=f"{__name__}:{type(self).__name__}.KIND")


class TestWithoutDefect(Declared):
    KIND = PLAIN


class TestNoExporter(Declared):
    KIND = "an exporter"
    fails = frozenset({"test_name_has_an_implementation"})


def _swap(arrays):
    for name in {"embedding", "blocks.4:avg"} & arrays.keys():
        arrays[name] = np.roll(arrays[name], 1, axis=0)


class TestShiftedVectors(Declared):
    KIND = changing(_swap)
    fails = frozenset(
        {
            "test_rows_are_read_back_as_they_were",
            "test_one_layer_and_one_split_can_be_chosen",
            "test_what_exists_is_kept_unless_it_is_to_be_replaced",
        }
    )


def _widen(arrays):
    arrays["embedding"] = arrays["embedding"].astype(np.float64)


class TestOtherNumbers(Declared):
    KIND = changing(_widen)
    fails = frozenset({"test_numbers_have_the_declared_format"})


def _forget(arrays):
    known = json.loads(str(arrays["provenance"]))
    known["specification"]["backbone"] = "another"
    arrays["provenance"] = np.array(json.dumps(known))


class TestOtherSpecification(Declared):
    KIND = changing(_forget)
    fails = frozenset({"test_the_description_says_what_the_vectors_are"})


def _write_hoarding(export, file):
    KEPT.clear()
    KEPT.extend(values.copy() for values in export.features("embedding"))
    PLAIN.write(export, file)


class TestAllInMemory(Declared):
    KIND = dataclasses.replace(PLAIN, write=_write_hoarding)
    fails = frozenset({"test_the_memory_does_not_grow_with_the_rows"})


def _write_beside(export, file):
    place = export.options.out.with_suffix(".started")
    place.touch()
    PLAIN.write(export, file)
    place.unlink()


class TestLeftovers(Declared):
    KIND = dataclasses.replace(PLAIN, write=_write_beside)
    fails = frozenset({"test_a_failure_leaves_nothing"})


class TestOverwrites(Declared):
    KIND = PLAIN
    fails = frozenset({"test_what_exists_is_kept_unless_it_is_to_be_replaced"})

    @pytest.fixture(autouse=True)
    def _unchecked(self, monkeypatch):
        monkeypatch.setattr(stage, "_check_place", lambda *_: None)
        monkeypatch.setattr(stage, "_check_still_free", lambda *_, **__: None)
