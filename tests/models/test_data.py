"""The data sets: real, complete, and split without overlap."""

from __future__ import annotations

import numpy as np
import pytest

from models import registry
from models.data import cldr, co2

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def splits():
    """{model: {split: (rows, labels)}}, read once."""
    read = {}
    for name in ("cnn", "lstm", "mlp", "transformer"):
        data = registry.load(name).dataset()
        read[name] = {split: data.rows(split) for split in SPLITS}
    return read


@pytest.mark.parametrize("name", ["cnn", "lstm", "mlp", "transformer"])
def test_splits_do_not_overlap(splits, name):
    seen = {
        split: {tuple(values[i].tobytes() for values in rows.values()) for i in range(len(labels))}
        for split, (rows, labels) in splits[name].items()
    }
    assert all(len(rows) > 50 for rows in seen.values())
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]


@pytest.mark.parametrize("name", ["cnn", "lstm", "mlp", "transformer"])
def test_rows_fit_the_spec_and_are_finite(splits, name):
    for rows, labels in splits[name].values():
        for tensor in registry.load(name).inputs:
            assert rows[tensor.name].dtype == tensor.dtype
            assert rows[tensor.name].shape[1:] == tensor.shape[1:]
        assert all(np.isfinite(values).all() for values in (*rows.values(), labels))


def test_normalisation_is_fitted_on_the_training_split_only(splits):
    data = registry.load("mlp").dataset()
    affine = data.affines["features"]
    rows = splits["mlp"]["train"][0]["features"]
    np.testing.assert_allclose(affine.ref, rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(affine.scale, rows.std(0), rtol=1e-4)


def test_every_digit_and_language_is_in_every_split(splits):
    for name, classes in (("cnn", 10), ("transformer", len(cldr.LANGUAGES))):
        assert len(cldr.LANGUAGES) >= 16
        for _, labels in splits[name].values():
            assert set(labels.tolist()) == set(range(classes))


def test_co2_weeks_of_a_row_lie_in_its_split(splits):
    """No reading, as input or as answer, is in two splits: found again by its place in the whole series."""
    days, ppm = co2.readings()
    known = np.flatnonzero(~np.isnan(ppm))
    filled = np.interp(np.arange(len(ppm)), known, ppm[known])
    every = np.lib.stride_tricks.sliding_window_view(filled, co2.WEEKS + 1)
    spans = {}
    for split, (rows, labels) in splits["lstm"].items():
        whole = np.concatenate([rows["series"][..., 0], labels[:, None]], axis=1)
        # The first and the last row suffice: rows are in the order of time.
        first, last = (int(np.abs(every - row).max(axis=1).argmin()) for row in (whole[0], whole[-1]))
        assert np.abs(every[first] - whole[0]).max() < 0.5
        spans[split] = (days[first], days[last + co2.WEEKS])
    assert spans["train"][1] < co2.VALIDATION_FROM <= spans["validation"][0]
    assert spans["validation"][1] < co2.TEST_FROM <= spans["test"][0]


def test_co2_gaps_are_filled_but_never_answers(splits):
    _, ppm = co2.readings()
    assert int(np.isnan(ppm).sum()) == 59
    rows = sum(len(labels) for _, labels in splits["lstm"].values())
    assert rows < len(ppm) - 3 * co2.WEEKS  # rows whose answer is missing are left out


def test_co2_input_knows_no_later_week():
    readings = np.arange(120, dtype=np.float32)
    readings[[30, 58, 59, 60]] = np.nan  # one gap inside, and one that ends a row
    later = readings.copy()
    later[61:] += 100
    before, after = (co2.windows(ppm)[0]["series"] for ppm in (readings, later))
    ends_at_gap = 61 - co2.WEEKS - 3  # the row that answers week 61: weeks 58 to 60 are missing and have no row
    np.testing.assert_array_equal(before[: ends_at_gap + 1], after[: ends_at_gap + 1])
    assert before[ends_at_gap, -1, 0] == 57
    assert before[0, 30, 0] == 30


def test_cldr_strings_belong_to_one_language():
    owners: dict[bytes, set[int]] = {}
    for split in SPLITS:
        for text, language in zip(*cldr.texts(split), strict=True):
            owners.setdefault(text.encode()[: cldr.LENGTH], set()).add(language)
    assert len(owners) > 10_000
    assert all(len(languages) == 1 for languages in owners.values())


def test_tokens_are_the_bytes_cut_and_padded():
    tokens = cldr.tokens_of(np.array(["", "añ", "x" * 50], object)).numpy()
    assert tokens.shape == (3, cldr.LENGTH)
    assert tokens.dtype == np.int32
    assert not tokens[0].any()
    assert tokens[1, :4].tolist() == [97, 0xC3, 0xB1, 0]
    assert (tokens[2] == ord("x")).all()
