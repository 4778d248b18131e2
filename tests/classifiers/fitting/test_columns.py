"""Side columns as features, compared with scikit-learn."""

import numpy as np
import pytest
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from frostline.classifiers.errors import HeadError
from frostline.classifiers.fitting.columns import ColumnEncoding, EncodedColumn, EncodedRows

TRAIN = np.arange(0, 40, 2)


@pytest.fixture
def table():
    random = np.random.default_rng(0)
    ages = random.normal(50, 10, 40)
    ages[[4, 7]] = np.nan
    sexes = np.array(["f", "m", "", "other"])[random.integers(0, 4, 40)]
    sexes[sexes == "other"] = "d"
    sexes[39] = "unseen"
    return {"age": ages, "sex": sexes, "site": random.integers(1, 4, 40).astype(float), "one": np.ones(40)}


def test_numbers_are_standardised_and_categories_become_one_feature_each(table):
    encoding = ColumnEncoding.fit(table, TRAIN, ["age,sex"], "c.h5")
    found = encoding.encode(table, slice(None))
    scaler = StandardScaler().fit(table["age"][TRAIN, None])
    expected = np.nan_to_num(scaler.transform(table["age"][:, None]))
    np.testing.assert_allclose(found[:, :1], expected, rtol=1e-6, atol=1e-7)
    encoder = OneHotEncoder(categories=[["d", "f", "m"]], handle_unknown="ignore", sparse_output=False)
    np.testing.assert_array_equal(found[:, 1:], encoder.fit_transform(table["sex"][:, None]))
    assert encoding.width == found.shape[1] == 4


def test_numbers_may_stand_for_categories(table):
    encoding = ColumnEncoding.fit(table, TRAIN, ["site:category"], "c.h5")
    assert encoding.columns == (EncodedColumn("site", values=("1", "2", "3")),)
    rows = EncodedRows(table, encoding, "c.h5")
    assert (rows.shape, rows.dtype) == ((40, 3), np.float32)
    np.testing.assert_array_equal(rows[5:9].argmax(axis=1) + 1, table["site"][5:9])


def test_validation_and_test_rows_change_nothing(table):
    first = ColumnEncoding.fit(table, TRAIN, ["age", "sex", "site"], "c.h5")
    changed = {name: values.copy() for name, values in table.items()}
    for values in changed.values():
        values[1::2] = "zzz" if values.dtype.kind == "U" else 1e6
    assert ColumnEncoding.fit(changed, TRAIN, ["age", "sex", "site"], "c.h5") == first


def test_a_name_with_a_comma_is_found_whole(table):
    table["age, in years"] = table.pop("age")
    encoding = ColumnEncoding.fit(table, TRAIN, ["age, in years", "sex"], "c.h5")
    assert encoding.names == ("age, in years", "sex")


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["size"], "c.h5: has no side column 'size'; got 'age', 'sex', 'site', 'one'"),
        (["age,age"], "'age' is named twice"),
        (["one"], "same number in all training rows"),
        (["one:category"], "has 1 different values"),
    ],
)
def test_columns_that_say_nothing_are_refused(table, names, problem):
    with pytest.raises(HeadError, match=problem):
        ColumnEncoding.fit(table, TRAIN, names, "c.h5")


def test_a_table_without_the_columns_is_refused(table):
    encoding = ColumnEncoding.fit(table, TRAIN, ["age", "sex"], "c.h5")
    with pytest.raises(HeadError, match=r"new\.h5: has no column 'sex'"):
        EncodedRows({"age": table["age"]}, encoding, "new.h5")
    with pytest.raises(HeadError, match=r"new\.h5: .*holds text here, such as 'old'"):
        EncodedRows({"age": np.array(["old"]), "sex": table["sex"]}, encoding, "new.h5")[:]


@pytest.mark.parametrize(
    "values",
    [
        {"mean": np.nan},
        {"deviation": 0.0},
        {"deviation": -1.0},
        {"deviation": np.inf},
        {"values": ("a", "a")},
    ],
)
def test_impossible_encodings_are_refused(values):
    with pytest.raises(ValueError, match="column 'age'"):
        EncodedColumn("age", **values)
