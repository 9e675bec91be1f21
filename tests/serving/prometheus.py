"""A strict reader of Prometheus's text format 0.0.4, for the tests: it takes what the format allows and nothing else."""

from __future__ import annotations

import re
from typing import NamedTuple

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"'
_SAMPLE = re.compile(rf"({_NAME})\{{((?:{_LABEL}(?:,{_LABEL})*)?)\}} (-?[0-9.e+-]+|\+Inf)")
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


class Family(NamedTuple):
    kind: str
    help: str
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]  # by the sample's name and labels


class Page(dict[str, Family]):
    def value(self, name: str, **labels: str) -> float:
        """The sum of a series' samples whose labels include the given ones; 0 where there is none."""
        family = self.get(name) or self[re.sub("_(bucket|sum|count)$", "", name)]
        wanted = set(labels.items())
        return sum(value for (of, have), value in family.samples.items() if of == name and wanted <= have)

    def label_values(self, name: str, label: str) -> set[str]:
        return {value for _, have in self[name].samples for key, value in have if key == label}


def parse(text: str) -> Page:
    """Raises AssertionError with the line that is wrong."""
    page = Page()
    assert text.endswith("\n")
    current, help_ = "", ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, name, help_ = line.split(" ", 3)
            assert name not in page, f"{name} stands in two places"
        elif line.startswith("# TYPE "):
            _, _, current, kind = line.split(" ")
            assert kind in ("counter", "gauge", "histogram"), line
            page[current] = Family(kind, help_, {})
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, f"odd line: {line}"
            name = match[1]
            endings = ("_bucket", "_sum", "_count") if page[current].kind == "histogram" else ("",)
            assert name in {current + ending for ending in endings}, f"{name} stands below {current}"
            labels = [(key, re.sub(r"\\.", _unescaped, value)) for key, value in re.findall(_LABEL, match[2])]
            key = name, frozenset(labels)
            assert len(dict(labels)) == len(labels), line
            assert key not in page[current].samples, f"twice: {line}"
            page[current].samples[key] = float(match[match.lastindex or 0])
    for name, family in page.items():
        if family.kind == "histogram":
            _check_histogram(name, family)
    return page


def _unescaped(match: re.Match[str]) -> str:
    return _ESCAPES[match[0]]


def _check_histogram(name: str, family: Family) -> None:
    series: dict[frozenset[tuple[str, str]], list[tuple[float, float]]] = {}
    for (of, labels), value in family.samples.items():
        if of == f"{name}_bucket":
            limit = float(dict(labels)["le"])
            series.setdefault(frozenset(pair for pair in labels if pair[0] != "le"), []).append((limit, value))
    for labels, buckets in series.items():
        limits, counts = [limit for limit, _ in buckets], [count for _, count in buckets]
        assert limits == sorted(set(limits)), f"{name}: buckets out of order"
        assert limits[-1] == float("inf"), f"{name}: no bucket +Inf"
        assert counts == sorted(counts), f"{name}: not cumulative"
        assert counts[-1] == family.samples[f"{name}_count", labels]
        assert (f"{name}_sum", labels) in family.samples
