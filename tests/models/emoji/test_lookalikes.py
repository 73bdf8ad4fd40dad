import pytest

from models.emoji.drawings import shared_drawings
from models.emoji.lookalikes import NEWEST_VERSION, NUM_NAMES, distinct_names, main, version
from models.emoji.names import EmojiName, bundled_names


def test_of_lookalikes_the_one_with_the_longer_name_goes(by_english: dict[str, EmojiName]) -> None:
    books = [by_english[name] for name in ("green book", "blue book", "red apple", "cat", "full moon", "new moon")]
    styles = [shared_drawings("twemoji")]
    kept = [name.en for name in distinct_names(books, styles, 5)]
    assert kept == ["blue book", "red apple", "cat", "full moon", "new moon"]
    assert distinct_names(books, styles, 6) == books
    with pytest.raises(ValueError, match="cannot choose 7 of 6 names"):
        distinct_names(books, styles, 7)


@pytest.mark.ops
@pytest.mark.usefixtures("noto")
def test_the_bundled_checkpoint_has_familiar_names_that_the_command_chooses(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    chosen = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(name.code, name.en, name.zh) for name in bundled_names()] == [tuple(fields) for fields in chosen]
    assert len(chosen) == NUM_NAMES == 512
    assert all(version(name) <= NEWEST_VERSION for name in bundled_names())
    assert "red apple" in {name.en for name in bundled_names()}
