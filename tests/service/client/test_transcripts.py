"""Conversations as files to read (as JSON: tests of the commands)."""

from service.client.transcripts import as_markdown


def test_questions_are_quotes() -> None:
    turns = [{"question": "a\nb", "answer": "c"}, {"question": "d", "answer": "e"}]
    talk = {"id": "conv-1", "title": None, "dropped_turns": 2, "turns": turns}
    assert as_markdown(talk) == "# conv-1\n\n*2 older turns are gone.*\n\n> a\n> b\n\nc\n\n> d\n\ne\n"
    assert as_markdown({**talk, "title": "Apples"}).startswith("# Apples\n")
