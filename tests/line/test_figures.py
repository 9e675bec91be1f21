"""The README's times are those of the recorded file, and the tests' groups are those of files that there are."""

from __future__ import annotations

import tomllib
from collections import Counter

import pytest

from deploy import figures
from deploy.figures import README, duration, sources, verdicts_in, with_figures
from models.artifacts import REPOSITORY, read_json
from models.errors import DeployError
from tests.commands import run_command


def test_readme_has_the_recorded_figures() -> None:
    assert with_figures(README.read_text()) == README.read_text(), "run `make readme-figures`"


def test_each_recorded_time_says_where_it_is_from() -> None:
    recorded = read_json(figures.FILE)["figures"]
    for figure in recorded.values():
        assert figure["value"]
        assert all(figure[name] for name in ("commit", "date", "machine"))
        assert figure["load_before"] >= 0
        assert f"commit {figure['commit']}" in sources()


def test_readme_without_its_marks_is_refused() -> None:
    with pytest.raises(DeployError, match="lacks the line"):
        with_figures("# Export Once\n")


def test_verdicts_of_one_model_are_cut_out_of_the_log() -> None:
    log = "comparing 2 cells\n   verdict  max error \ncnn v2  \n  keras ✓ pass\n  lite ✓ pass  \ncnn v1\n  keras ✓ pass\n2 passed, 0 failed  report: x"
    assert verdicts_in(log) == [
        "   verdict  max error",
        "cnn v2",
        "  keras ✓ pass",
        "  lite ✓ pass",
        "2 passed, 0 failed",
    ]


def test_unknown_measurement_is_one_sentence() -> None:
    done = run_command(figures.main, "measure", "--only", "demo,nope")
    assert done.returncode == 2
    assert done.stderr == "error: unknown measurement nope; choose from demo, ci\n"


@pytest.mark.parametrize(("seconds", "told"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (372, "6 min 12 s")])
def test_duration_is_in_minutes_and_seconds(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_groups_name_files_that_there_are_and_each_once() -> None:
    groups = tomllib.loads((REPOSITORY / "tests" / "groups.toml").read_text())
    files = [file for names in groups.values() for file in names]
    assert [file for file in files if not (REPOSITORY / file).is_file()] == []
    assert [file for file, count in Counter(files).items() if count > 1] == []
