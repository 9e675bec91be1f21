"""The weighted split: shares as asked for, the same label for the same key, and no key moved that need not move."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from models.artifacts import REPOSITORY
from serving.client import Split

KEYS = [f"user-{i}" for i in range(20_000)]


@pytest.mark.parametrize("keys", [KEYS, range(20_000), [k.encode() for k in KEYS], [None] * 20_000])
def test_labels_get_their_share(keys):
    split = Split({"stable": 90, "canary": 10})
    found = Counter(split.choose(key) for key in keys)
    # Five standard deviations of a binomial share of 0.1 over 20,000 are 0.0106.
    assert found["canary"] / len(keys) == pytest.approx(0.1, abs=0.011)
    assert found.total() == len(keys)


def test_key_gets_the_same_label_in_every_process():
    split = Split({"stable": 1, "canary": 1})
    code = "from serving.client import Split; s = Split({'stable': 1, 'canary': 1}); print(*[s.choose(i) for i in range(50)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.split() == [split.choose(i) for i in range(50)]
    assert split.choose("7") == split.choose(7) == split.choose(b"7")


@pytest.mark.parametrize("weights", [{"stable": 90, "canary": 10}, {"a": 50, "b": 40, "canary": 10}])
def test_raising_a_weight_only_moves_keys_to_it(weights):
    before = {key: Split(weights).choose(key) for key in KEYS}
    for raised in (20, 50, 200):
        after = {key: Split({**weights, "canary": raised}).choose(key) for key in KEYS}
        moved = {(before[key], after[key]) for key in KEYS if before[key] != after[key]}
        assert moved == {(label, "canary") for label in weights if label != "canary"}
        before = after


def test_order_and_scale_of_the_weights_make_no_difference():
    first, second = Split({"stable": 0.9, "canary": 0.1}), Split({"canary": 10, "stable": 90})
    assert all(first.choose(key) == second.choose(key) for key in KEYS[:2000])


def test_label_of_weight_zero_is_never_chosen():
    split = Split({"stable": 100, "canary": 0})
    assert {split.choose(key) for key in KEYS[:2000]} == {"stable"} == {split.choose() for _ in range(100)}


def test_another_salt_shares_the_keys_out_anew():
    first, second = Split({"a": 1, "b": 1}), Split({"a": 1, "b": 1}, salt="second experiment")
    both = Counter((first.choose(key), second.choose(key)) for key in KEYS)
    assert all(count / len(KEYS) == pytest.approx(0.25, abs=0.02) for count in both.values())
    assert len(both) == 4


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({}, "no labels to split between"),
        ({"stable": 0, "canary": 0}, "every weight of stable, canary is 0"),
        ({"stable": -1}, "the weight of 'stable' is -1"),
        ({"stable": float("nan")}, "the weight of 'stable' is nan"),
        ({"stable": float("inf"), "canary": 1}, "the weight of 'stable' is inf"),
        ({"stable": True}, "the weight of 'stable' is True"),
    ],
)
def test_weights_that_share_nothing_are_refused(weights, words):
    with pytest.raises(ValueError, match=words):
        Split(weights)
