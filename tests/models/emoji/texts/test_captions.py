import numpy as np

from models.emoji.names import EmojiName
from models.emoji.scenes.grounds import COLOURS
from models.emoji.texts.captions import Subject, caption, draw_subject

BLUE = next(colour for colour in COLOURS if colour.en == "blue")


def captions(subject: Subject, language: str) -> set[str]:
    rng = np.random.default_rng(0)
    return {caption(rng, subject, language) for _ in range(400)}  # type: ignore[arg-type]


def test_a_name_alone_is_captioned_as_people_type_it(by_english: dict[str, EmojiName]) -> None:
    apple = Subject(by_english["red apple"], None, "centre")
    assert {"red apple", "Red apple", "a red apple", "A red apple", "a picture of a red apple"} <= captions(apple, "en")
    assert {"红苹果", "一个红苹果", "画一个红苹果", "红苹果。"} <= captions(apple, "zh")


def test_colour_and_place_are_said(by_english: dict[str, EmojiName]) -> None:
    apple = by_english["red apple"]
    on_blue = captions(Subject(apple, BLUE, "centre"), "en")
    assert "a red apple on a blue background" in on_blue and all("blue" in text for text in on_blue)
    assert "蓝色背景上的红苹果" in captions(Subject(apple, BLUE, "centre"), "zh")
    assert all("left" in text for text in captions(Subject(apple, None, "left"), "en"))
    assert all("右边" in text and "蓝色" in text for text in captions(Subject(apple, BLUE, "right"), "zh"))


def test_no_caption_means_two_subjects(names: tuple[EmojiName, ...]) -> None:
    rng = np.random.default_rng(1)
    meant: dict[str, Subject] = {}
    for number in range(6000):
        subject = draw_subject(rng, names[number % len(names)])
        text = caption(rng, subject, "en" if number % 2 else "zh").lower().rstrip(".。")
        assert meant.setdefault(text, subject) == subject, text


def test_most_subjects_are_a_name_alone(names: tuple[EmojiName, ...]) -> None:
    rng = np.random.default_rng(1)
    subjects = [draw_subject(rng, names[0]) for _ in range(2000)]
    assert 0.5 < np.mean([subject.colour is None and subject.place == "centre" for subject in subjects]) < 0.75
    assert {subject.colour for subject in subjects} == {None, *COLOURS}


def test_a_counting_name_takes_no_measure_word(by_english: dict[str, EmojiName]) -> None:
    milk = Subject(by_english["glass of milk"], None, "centre")
    assert milk.name.zh == "一杯奶"
    assert not any("一个" in text for text in captions(milk, "zh"))
