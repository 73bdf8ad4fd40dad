"""Packaged word lists as sets of our categories."""

from safety.rule_files import RuleBook
from safety.text_lists import EVERYDAY_SCORE, read_lists
from safety.text_rules import load_text_rules


def test_everyday_words_of_the_lists_score_low_and_single_letters_nothing() -> None:
    rules = load_text_rules()
    assert rules.scores(["a rooster is a cock"])[0]["sexual"] == EVERYDAY_SCORE
    assert not rules.scores(["a$$ 性 奶"])[0]["sexual"]
    listed = {term for name, terms in read_lists(RuleBook({}, (), ())).words.items() for term in terms}
    assert len(listed) > 600 and min(map(len, listed)) > 1
