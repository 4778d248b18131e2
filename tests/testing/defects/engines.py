"""Engines with one defect each."""

import numpy as np
import pytest
import torch

from frostline.features.engines import EngineKind
from frostline.features.engines.eager import EagerEngine
from frostline.testing import EngineContract

LABEL = "broken 1"


class Plain(EagerEngine):
    """An engine of another package, as it should be."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.name = LABEL

    def run(self, batches):
        for batch, outputs in super().run(batches):
            yield batch, self.changed(batch, outputs)

    def changed(self, _batch, outputs):
        return outputs


def kind(engine, *, label=LABEL, **options):
    return EngineKind(**{"build": engine, "label": lambda _device: label, "devices": ("cpu",), **options})


class Declared(EngineContract):
    kind = "broken"
    fails = frozenset()

    @pytest.fixture(autouse=True)
    def _declared(self, declare):
        declare("frostline.engines", broken=f"{__name__}:{type(self).__name__}.KIND")


class TestWithoutDefect(Declared):
    KIND = kind(Plain)


class TestBatchSizeOfZero(Declared):
    KIND = kind(Plain, batch_size=0)
    fails = frozenset({"test_kind_is_registered_for_the_device_and_the_precision"})


class TestLabelOfAnotherEngine(Declared):
    KIND = kind(Plain, label="other 1")
    fails = frozenset({"test_label_begins_with_the_name_in_the_registry"})


class Unlabelled(Plain):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.name = "broken"


class TestNameWithoutVersion(Declared):
    KIND = kind(Unlabelled)
    fails = frozenset({"test_attributes_describe_the_engine"})


class Scaled(Plain):
    def changed(self, _batch, outputs):
        return {key: values * np.float32(1.0001) for key, values in outputs.items()}


class TestSlightlyScaledFeatures(Declared):
    KIND = kind(Scaled)
    fails = frozenset({"test_features_agree_with_plain_pytorch_in_fp32"})


class Double(Plain):
    def changed(self, _batch, outputs):
        return {key: values.astype(np.float64) for key, values in outputs.items()}


class TestDoublePrecision(Declared):
    KIND = kind(Double)
    fails = frozenset({"test_features_agree_with_plain_pytorch_in_fp32"})


class Alphabetical(Plain):
    def changed(self, _batch, outputs):
        return dict(sorted(outputs.items()))


class TestLayersInAlphabeticalOrder(Declared):
    KIND = kind(Alphabetical)
    fails = frozenset({"test_layers_come_in_the_order_of_the_request"})


class Normalised(Plain):
    def changed(self, _batch, outputs):
        return {
            key: values - values.mean(axis=0) * np.float32(1e-3 if len(values) > 1 else 0)
            for key, values in outputs.items()
        }


class TestNeighboursCount(Declared):
    KIND = kind(Normalised)
    fails = frozenset({"test_features_depend_on_no_neighbour_no_place_and_no_padding"})


class Flat(Plain):
    def changed(self, _batch, outputs):
        return {key: values.reshape(-1, 1, values.shape[2]) for key, values in outputs.items()}


class TestViewsAreRows(Declared):
    KIND = kind(Flat)
    fails = frozenset({"test_views_of_an_image_stay_together"})


class Swapping(Plain):
    def run(self, batches):
        computed = list(super().run(batches))
        return reversed(computed)


class TestBatchesInAnotherOrder(Declared):
    KIND = kind(Swapping)
    fails = frozenset({"test_batches_pass_through_in_order_with_what_they_hold"})


class Padded(Plain):
    def changed(self, batch, outputs):
        padding = np.zeros((self.batch_size // batch.views - len(batch.rows), batch.views, 1), np.float32)
        return {
            key: np.concatenate([values, padding.repeat(values.shape[2], axis=2)])
            for key, values in outputs.items()
        }


class TestPaddingIsReturned(Declared):
    KIND = kind(Padded)
    fails = frozenset({"test_batches_pass_through_in_order_with_what_they_hold"})


class Reusing(Plain):
    def run(self, batches):
        kept = {}
        for batch, outputs in super().run(batches):
            for key, values in outputs.items():
                buffer = kept.setdefault(key, np.empty((self.batch_size, 1, values.shape[2]), np.float32))
                buffer[: len(values)] = values.reshape(-1, 1, values.shape[2])[: self.batch_size]
            yield batch, {key: kept[key][: len(values)] for key, values in outputs.items()}


class TestOneBufferForAllBatches(Declared):
    KIND = kind(Reusing)
    fails = frozenset({"test_features_of_one_batch_survive_the_others"})


class Greedy(Plain):
    def run(self, batches):
        return super().run(list(batches))


class TestAllBatchesAtOnce(Declared):
    KIND = kind(Greedy)
    fails = frozenset({"test_it_takes_no_more_batches_than_it_may_hold"})


class Forgiving(Plain):
    def run(self, batches):
        try:
            yield from super().run(batches)
        except OSError:
            return


class TestErrorsOfTheSourceAreDropped(Declared):
    KIND = kind(Forgiving)
    fails = frozenset({"test_a_failing_source_fails_the_run_and_the_next_run_works"})


class Moving(Plain):
    def __init__(self, backbone, *args, **options):
        super().__init__(backbone, *args, **options)
        backbone.module.requires_grad_(True)


class TestNetworkIsNoLongerFrozen(Declared):
    KIND = kind(Moving)
    fails = frozenset({"test_backbone_is_unchanged"})


class Lenient(Plain):
    def run(self, batches):
        for batch in batches:
            try:
                yield from super().run([batch])
            except RuntimeError:
                yield batch, {layer.key: torch.zeros(4, 1, layer.dim).numpy() for layer in self.layers}


class TestAnyShapeIsAccepted(Declared):
    KIND = kind(Lenient)
    fails = frozenset({"test_a_batch_of_another_shape_is_an_error"})
