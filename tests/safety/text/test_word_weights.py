"""The weights of words: what a text is weighed by, and what follows for the rules' scores."""

import math

import msgspec
import pytest

from safety.categories import CATEGORIES
from safety.text.lists import EVERYDAY_SCORE, read_lists
from safety.text.rule_files import Rule, RuleBook, read_rules
from safety.text.rules import WEIGHED_SCORE, TextRules, load_text_rules
from safety.text.word_weights import Weight, WeightsFile, WordWeights, read_weights, words_of

FILE = WeightsFile(
    fitted_on="",
    bias=-1.0,
    bias_chinese=-0.5,
    limit=2.0,
    of_rule=4.0,
    least_of_terms=0.5,
    categories=("illicit", "violence"),
    sets={"bombs": Weight(2.0, 0), "gardens": Weight(-1.0, -1), "fists": Weight(1.0, 1)},
    words={"my neighbour": Weight(1.5, 1), "film": Weight(-2.0, -1), "build": Weight(2.1, 0), "炸弹": Weight(2.0, 0)},
)
TERMS = [["bombs"], ["gardens"], ["fists"], ["bombs", "fists"], ["unknown"]]


def test_words_and_pairs_of_them_or_runs_of_chinese_characters() -> None:
    assert words_of(" how do i ") == {"how", "do", "i", "how do", "do i"}
    assert words_of(" 做炸弹 ") == {"做", "炸", "弹", "做炸", "炸弹", "做炸弹"}
    assert words_of(" 我的 wifi is 慢 ") == {"我", "的", "我的", "wifi", "is", "wifi is", "慢"}


@pytest.mark.parametrize(
    ("terms", "reading", "rule_score", "harm"),
    [
        ([0], " build it ", 0.0, 2.0 - 1.0 + 2.1),
        ([0], " build it for a film ", 0.0, 2.0 - 1.0 + (2.1 - 2.0) / math.sqrt(2)),
        ([0, 1], " build it ", 0.0, 2.0 - 1.0 - 1.0 + 2.1),
        ([2], " my neighbour ", 0.0, 1.0 - 1.0 + 1.5),
        ([3], " what is it ", 0.0, 3.0 - 1.0),
        ([0], " 炸弹 ", 0.0, 2.0 - 1.0 - 0.5 + 2.0),
        ([0], " a film ", 1.0, 2.0 - 1.0 - 2.0 + 4.0),
        ([0], " a film ", 0.8, 2.0 - 1.0 - 2.0 + 3.2),
    ],
)
def test_what_speaks_for_harm_and_against_it_is_added_up(
    terms: list[int], reading: str, rule_score: float, harm: float
) -> None:
    assert WordWeights(FILE, TERMS).is_harm(terms, reading, rule_score) == (harm > FILE.limit)


def test_without_words_of_the_rules_a_text_passes_whatever_else_it_says() -> None:
    weights = WordWeights(FILE, TERMS)
    assert not weights.is_harm([4], " build build build ", 0.0)
    assert weights.is_harm([0], " build build build ", 0.0)


def test_the_category_is_that_for_which_most_speaks() -> None:
    weights = WordWeights(FILE, TERMS)
    assert weights.category([0], " build it ") == "illicit"
    assert weights.category([2], " hit my neighbour ") == "violence"
    assert weights.category([2], " build a film set with my neighbour ") == "violence"


WORDS = {"bombs": ("bomb",), "gardens": ("flower",), "oaths": ("damn",)}
PROFANE = Rule("c", "profanity", 1.0, ("oaths",))


def scores(book: RuleBook, text: str, weights: WeightsFile | None) -> dict[str, float]:
    return TextRules(book, weights).scores([text])[0]


def test_what_no_rule_catches_is_raised_where_its_words_speak_for_harm() -> None:
    book = RuleBook(WORDS, (PROFANE,), (), ("illicit", "profanity"))
    assert scores(book, "build a bomb", None) == {"illicit": 0.0, "profanity": 0.0}
    assert scores(book, "build a bomb", FILE) == {"illicit": WEIGHED_SCORE, "profanity": 0.0}
    assert scores(book, "a bomb in a film", FILE)["illicit"] == 0.0


def test_a_rule_is_lifted_where_its_words_stand_in_harmless_company() -> None:
    book = RuleBook(WORDS, (Rule("r", "illicit", 1.0, ("bombs",)), PROFANE), (), ("illicit", "profanity"))
    text = "the damn film has a flower bomb"
    assert scores(book, text, None) == {"illicit": 1.0, "profanity": 1.0}
    lifted = scores(book, text, FILE)
    assert lifted["illicit"] == EVERYDAY_SCORE, "2 - 1 - 1 - 2 + 4 is not beyond the limit"
    assert lifted["profanity"] == 1.0, "which is coarse wherever it stands"
    assert scores(book, "the film has a bomb", FILE)["illicit"] == 1.0


def test_a_long_text_is_judged_by_the_rules_alone() -> None:
    book = RuleBook(WORDS, (PROFANE,), (), ("illicit", "profanity"))
    assert scores(book, "build a bomb. " + "It rains today. " * 40, FILE)["illicit"] == 0.0


def test_of_some_length_on_a_text_is_not_blocked_for_its_words_alone_and_chinese_ones_sooner() -> None:
    weights = msgspec.structs.replace(FILE, limit=-5.0)
    book = RuleBook({**WORDS, "bombs": ("bomb", "炸弹")}, (PROFANE,), (), ("illicit", "profanity"))
    for short, longer in (
        ("build a bomb. " + "It rains today. " * 20, "build a bomb. " + "It rains today. " * 25),
        ("造炸弹。" + "今天下雨了。" * 20, "造炸弹。" + "今天下雨了。" * 25),
    ):
        assert scores(book, short, weights)["illicit"] == WEIGHED_SCORE
        assert scores(book, longer, weights)["illicit"] == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "这张照片里是一座热闹的集市。摊主们把刚摘下来的橙子、葡萄和番茄堆得高高的，一位穿蓝色围裙的女士正在给顾客称重，旁边的小男孩"
        "伸手去够一串香蕉，他的母亲笑着拦住了他。远处有几位老人坐在长凳上聊天，还有一只棕色的小狗趴在桌子底下睡觉。天空多云，地面"
        "略微潮湿，说明不久前刚下过雨。整个场面充满生活气息，让人感到轻松愉快。",
        "图中有六名年轻人围坐在一张长木桌旁，正在品尝葡萄酒。站在中间的男人戴着眼镜，两侧各有一位女士，她们都举着酒杯，面带微笑。桌上"
        "放着几瓶红酒、一盘奶酪和一些面包，墙上挂着一面大镜子。从他们的穿着和表情来看，这可能是一次朋友之间的聚会，也可能是酒庄为"
        "游客举办的活动。房间里的灯光很柔和，窗外可以看到一排排整齐的葡萄藤。",
    ],
)
def test_a_picture_described_at_length_passes(text: str) -> None:
    assert max(load_text_rules().scores([text])[0].values()) <= EVERYDAY_SCORE


@pytest.mark.slow
def test_the_bundled_weights_are_of_known_sets_and_categories() -> None:
    file, book = read_weights(), read_lists(read_rules())
    assert set(file.sets) <= set(book.words) and set(file.categories) <= CATEGORIES & set(book.categories)
    assert all(words_of(f" {words} ") >= {words} for words in file.words)
    assert all(-1 <= weight.category < len(file.categories) for weight in (*file.sets.values(), *file.words.values()))


def test_other_weights_are_another_version() -> None:
    book = RuleBook(WORDS, (PROFANE,), (), ("illicit", "profanity"))
    versions = {
        TextRules(book).version,
        TextRules(book, FILE).version,
        TextRules(book, msgspec.structs.replace(FILE, limit=2.5)).version,
    }
    assert len(versions) == 3
