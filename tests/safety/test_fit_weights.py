"""Fitting the weights of words: on which texts, to which weights, and that the stored ones are of today's."""

import math
from collections import Counter
from pathlib import Path

import pytest

from safety import fit_weights
from safety.evaluate import LABELLED_DIR, SAFE, TAUGHT, UNREAD, read_labelled
from safety.fit_weights import (
    CATEGORIES,
    Features,
    Text,
    features_of,
    fingerprint,
    fit,
    main,
    out_of_fold,
    own_texts,
    plain_sentences,
    weights_file,
)
from safety.text.lists import read_lists
from safety.text.rule_files import RuleBook, read_rules
from safety.text.rules import TextRules
from safety.text.word_weights import read_weights

RULES = read_lists(read_rules())
FEW = [
    *(Text(f"how do I build a bomb in room {number}", "weapons", is_taught=True) for number in range(12)),
    *(Text(f"how do I build a shed in room {number}", SAFE, is_taught=True) for number in range(12)),
]


def features(*words: str, **sets: int) -> Features:
    return Features(Counter(sets), set(words), is_chinese=False, is_rule_broken=False)


@pytest.mark.slow
def test_the_stored_weights_were_fitted_on_the_texts_and_words_that_there_are() -> None:
    assert read_weights().fitted_on == fingerprint(own_texts(RULES), RULES), "run python -m safety.fit_weights"


@pytest.mark.slow
def test_nothing_that_is_held_apart_is_learned_from() -> None:
    learned = {one.text for one in own_texts(RULES)}
    for name in UNREAD:
        assert not learned & {prompt.text for prompt in read_labelled(LABELLED_DIR / f"{name}.jsonl")}
    taught = {prompt.text for prompt in read_labelled(LABELLED_DIR / f"{TAUGHT}.jsonl")}
    assert taught <= learned and len(taught) > 5000


def test_other_texts_or_words_are_told() -> None:
    book = RuleBook({"a": ("one",)}, (), (), ())
    assert fingerprint(FEW, book) == fingerprint(FEW[::-1], book)
    assert fingerprint(FEW, book) != fingerprint(FEW[1:], book)
    assert fingerprint(FEW, book) != fingerprint(FEW, RuleBook({"a": ("one", "two")}, (), (), ()))


@pytest.mark.slow
def test_plain_sentences_are_the_same_each_time_and_in_both_languages() -> None:
    found = [one.text for one in plain_sentences()]
    assert found == [one.text for one in plain_sentences()] and 2000 < len(found) == len(set(found)) <= 5000
    num_chinese = sum(not text.isascii() for text in found)
    assert 500 < num_chinese and {one.kind for one in plain_sentences(10)} == {SAFE}


def test_without_features_the_bias_is_the_log_of_the_odds() -> None:
    fitted = fit([features()] * 8, [True] * 6 + [False] * 2)
    assert fitted.harm(features()) == pytest.approx(math.log(3), abs=1e-4)
    counted = fit([features()] * 2, [True, False], [6.0, 2.0])
    assert counted.harm(features()) == pytest.approx(math.log(3), abs=1e-4)


def test_the_weights_are_where_the_penalised_loss_is_least() -> None:
    rows = [features("kill", "it", deeds=1), features("kill", "it"), features("kill"), features("it"), features()]
    is_unsafe = [True, True, False, False, False]
    fitted = fit(rows * 3, is_unsafe * 3)
    for name, place in fitted.places.items():
        slope = 0.0
        for row, unsafe in zip(rows * 3, is_unsafe * 3, strict=True):
            value = dict(fit_weights._row(row, fitted.places)).get(place, 0.0)
            slope += (1 / (1 + math.exp(-fitted.harm(row))) - unsafe) * value
        slope += 0.0 if name == ("bias", "") else fit_weights._PENALTY * fitted.weights[place].item()
        assert slope == pytest.approx(0, abs=1e-3), name
    assert fitted.harm(rows[0]) > 0 > fitted.harm(rows[4])


@pytest.mark.slow
def test_texts_are_judged_by_weights_that_did_not_see_them() -> None:
    found = features_of(FEW, TextRules(RULES))
    harms = out_of_fold(FEW, found)
    assert min(harms[:12]) > max(harms[12:])
    odd = [*FEW, Text("how do I build a bomb in room 99", SAFE, is_taught=True)]
    assert out_of_fold(odd, features_of(odd, TextRules(RULES)))[-1] > 0, "its own label is not known to them"


@pytest.mark.slow
def test_a_weight_names_the_category_that_it_speaks_for() -> None:
    file = weights_file(FEW, features_of(FEW, TextRules(RULES)), "these")
    assert file.words["bomb"].harm > 0.5 and CATEGORIES[file.words["bomb"].category] == "illicit/violent"
    assert file.words["shed"].harm < -0.5 and file.words["shed"].category == -1
    assert file.fitted_on == "these"


@pytest.mark.slow
def test_the_command_writes_the_file_or_tells_what_limits_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fit_weights, "WEIGHTS_FILE", tmp_path / "weights.json")
    monkeypatch.setattr(fit_weights, "own_texts", lambda _: FEW)
    monkeypatch.setattr(fit_weights, "plain_sentences", list)
    assert main(["--folds"]) == 0 and not (tmp_path / "weights.json").exists()
    printed = capsys.readouterr().out
    assert "English: 12 unsafe, 12 safe" in printed and "rules alone" in printed
    assert main([]) == 0
    assert read_weights(tmp_path / "weights.json").words["bomb"].harm > 0
