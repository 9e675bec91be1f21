"""Names of territories, languages, scripts and currencies in sixteen languages: Unicode CLDR, through Babel.

Reading 16 locales takes seconds, so the strings are kept as TFRecord files of tf.Example (``text``, ``language``) below
``artifacts/data/cldr``, written whole or not at all. A string that two of the languages share belongs to none of them.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import tensorflow as tf

from models.artifacts import artifacts_root, is_current, write_json, write_whole
from models.code import code_fingerprint
from models.data.dataset import Dataset

LANGUAGES = ("de", "en", "et", "eu", "fi", "fr", "ga", "hu", "is", "lt", "lv", "pl", "sq", "sw", "tr", "vi")
LENGTH = 40  # bytes of UTF-8; longer names are cut, shorter ones padded with 0
SPLITS = {"train": 0.70, "validation": 0.10, "test": 0.20}
_SEED = 13


def dataset() -> Dataset:
    """Rows ``({"tokens": int32 [40], UTF-8 bytes}, label int32: the language's place in LANGUAGES)``."""
    folder = _records()
    train, validation, test = (_read(folder / f"{split}.tfrecord") for split in SPLITS)
    return Dataset(
        train,
        validation,
        test,
        splits="70 % train, 10 % validation, 20 % test by string, shuffled with seed 13; strings shared by two languages left out",
        ranges={"tokens": (0.0, 255.0), "probabilities": (0.0, 1.0)},
    )


def texts(split: str) -> tuple[list[str], list[int]]:
    """The strings of one split and their labels, for the baseline and the tests."""
    strings, labels = [], []
    for record in tf.data.TFRecordDataset(str(_records() / f"{split}.tfrecord")).as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        strings.append(feature["text"].bytes_list.value[0].decode())
        labels.append(feature["language"].int64_list.value[0])
    return strings, labels


def tokens_of(text: tf.Tensor) -> tf.Tensor:
    """Strings [n] → int32 [n, LENGTH]: their bytes, cut or padded with 0, through a RaggedTensor."""
    parts = tf.strings.bytes_split(text)
    codes = tf.cast(tf.squeeze(tf.io.decode_raw(parts.flat_values, tf.uint8), -1), tf.int32)
    return parts.with_flat_values(codes)[:, :LENGTH].to_tensor(shape=[None, LENGTH])


def _read(path: Path) -> tf.data.Dataset:
    layout = {"text": tf.io.FixedLenFeature([], tf.string), "language": tf.io.FixedLenFeature([], tf.int64)}

    def rows(records):
        fields = tf.io.parse_example(records, layout)
        return {"tokens": tokens_of(fields["text"])}, tf.cast(fields["language"], tf.int32)

    return tf.data.TFRecordDataset(str(path)).batch(512).map(rows).unbatch()


def _records() -> Path:
    folder = artifacts_root() / "data" / "cldr"
    made_from = code_fingerprint([Path(__file__)], extra=f"babel {version('babel')}")
    if not is_current(folder / "cldr.json", made_from):
        with write_whole(folder) as temporary:
            temporary.mkdir()
            counts = _write(temporary)
            write_json(temporary / "cldr.json", {"made_from": made_from, "languages": LANGUAGES, "rows": counts})
    return folder


def _write(folder: Path) -> dict[str, int]:
    strings = _unshared_names()
    order = np.random.default_rng(_SEED).permutation(len(strings))
    counts, start = {}, 0.0
    for split, share in SPLITS.items():
        chosen = order[round(start * len(order)) : round((start + share) * len(order))]
        start += share
        counts[split] = len(chosen)
        with tf.io.TFRecordWriter(str(folder / f"{split}.tfrecord")) as writer:
            for row in chosen:
                text, language = strings[row]
                example = tf.train.Example()
                example.features.feature["text"].bytes_list.value.append(text.encode())
                example.features.feature["language"].int64_list.value.append(language)
                writer.write(example.SerializeToString())
    return counts


def _unshared_names() -> list[tuple[str, int]]:
    from babel import Locale

    # By what the model sees of them: two long names that begin alike are the same row.
    owners: dict[bytes, dict[int, str]] = {}
    for number, language in enumerate(LANGUAGES):
        locale = Locale.parse(language)
        for table in (locale.territories, locale.languages, locale.currencies, locale.scripts):
            for name in map(str, table.values()):
                owners.setdefault(name.encode()[:LENGTH], {}).setdefault(number, name)
    alone = [next(iter(names.items())) for names in owners.values() if len(names) == 1]
    # Short codes such as "XAF" say nothing about a language.
    return sorted((name, language) for language, name in alone if len(name) > 3)
