"""Publishing and unloading versions leaves no memory behind, in either engine."""

from __future__ import annotations

import pytest

from loadtest.cycles import resident_by_cycle

MAX_GROWTH = 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "names", "cycles", "settled"),
    [
        ("litert", ["mlp"], 60, 0),
        pytest.param("tensorflow", ["mlp"], 60, 0, marks=pytest.mark.exhaustive),
        pytest.param("litert", ["mlp"], 1000, 0, marks=pytest.mark.exhaustive),
        # The first swaps make room for two versions of the lstm and the transformer, 10 MB each; it stays and is used again.
        pytest.param("litert", ["mlp", "cnn", "lstm", "transformer"], 1000, 40, marks=pytest.mark.exhaustive),
    ],
)
def test_memory_stays_through_many_versions(engine, names, cycles, settled, repository_folder, tmp_path):
    resident = resident_by_cycle(names, cycles, engine, repository_folder, tmp_path)
    start, before, after = resident[0], resident[settled], resident[-1]
    growth = after / before - 1
    print(f"{engine}, {', '.join(names)}: {start / 1e6:.1f} MB at the start, {before / 1e6:.1f} MB after {settled} cycles, "
          f"{after / 1e6:.1f} MB after {cycles} ({growth:+.1%})")  # fmt: skip
    assert growth < MAX_GROWTH
