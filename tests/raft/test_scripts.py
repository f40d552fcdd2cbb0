"""Protocol exchanges as transcripts; see script.py for the words and for how to regenerate them."""

import pytest

from tests.raft.script import SCRIPTS, transcript

PATHS = sorted(SCRIPTS.glob("*.txt"))


def test_there_are_scripts():
    assert len(PATHS) >= 8


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_script(path):
    text = path.read_text()
    assert "----" in text
    assert transcript(text) == text


def test_a_wrong_expectation_is_noticed():
    text = PATHS[0].read_text()
    assert transcript(text.replace("----\n", "----\nwrong ", 1)) == text
