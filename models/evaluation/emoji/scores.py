"""From single verdicts to scores by what was asked, language, style of drawing and group, and to each name's record."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from models.emoji.names import EmojiName
from models.evaluation.emoji.benchmark import TONGUES, Answered
from models.evaluation.emoji.painting import Painting
from models.evaluation.emoji.report import Accuracy, Score

# In the order of the report; a measure that unites others comes after them.
KINDS = ("name", "scene", "category", "colour", "side", "where", "count")
FOLLOW_UPS = ("translate", "follow_category", "follow_colour", "follow_side")
TRAINED, PAINTED = "trained", "painted"


def answer_scores(answered: Sequence[Answered], trained: Sequence[str]) -> list[Score]:
    """By measure, style and language; `trained` styles also together. Then names by group, over all trained styles."""
    styles = list(dict.fromkeys(one.style for one in answered))
    parts: list[tuple[str, Callable[[Answered], bool]]] = [(TRAINED, lambda one: one.style in trained)]
    parts += [(style, lambda one, style=style: one.style == style) for style in styles]  # type: ignore[misc]
    scores = []
    for part, is_part in parts:
        of_part = [one for one in answered if is_part(one)]
        for measure, kinds in [*((kind, (kind,)) for kind in KINDS + FOLLOW_UPS), ("follow_up", FOLLOW_UPS)]:
            scores += _by_language(measure, part, "", [one for one in of_part if one.round.kind in kinds])
    named = [one for one in answered if one.name and one.round.kind == "name" and one.style in trained]
    for group in dict.fromkeys(one.name.group for one in named if one.name):
        scores += _by_language("name", TRAINED, group, [one for one in named if one.name and one.name.group == group])
    return scores


def _by_language(measure: str, style: str, group: str, answered: Sequence[Answered]) -> list[Score]:
    scores = []
    for language in TONGUES:
        by_item: defaultdict[int, list[Answered]] = defaultdict(list)
        for one in answered:
            if one.round.language == language:
                by_item[one.item].append(one)
        if not by_item:
            continue
        asked = [len(questions) for questions in by_item.values()]
        correct = [sum(one.verdict.correct for one in questions) for questions in by_item.values()]
        exact = [sum(one.verdict.exact for one in questions) for questions in by_item.values()]
        accuracies = Accuracy.of(correct, asked), Accuracy.of(exact, asked)
        scores.append(Score(measure, language, style, group, sum(asked), *accuracies))
    return scores


def painting_scores(paintings: Sequence[Painting]) -> list[Score]:
    """What the two judges made of the paintings, by language and by group."""
    scores = []
    for group in ("", *dict.fromkeys(painting.name.group for painting in paintings)):
        for judge in ("chat", "classifier"):
            for language in TONGUES:
                seen = [one for one in paintings if one.language == language and group in ("", one.name.group)]
                hits = [one.by_chat if judge == "chat" else one.by_classifier for one in seen]
                scores.append(_plain_score(f"paint.{judge}", language, PAINTED, group, hits))
    return scores


def classifier_scores(hits_by_style: dict[str, list[bool]]) -> list[Score]:
    """What the independent classifier makes of real, unseen compositions: how far its word can be trusted."""
    together = [hit for hits in hits_by_style.values() for hit in hits]
    return [
        _plain_score("classifier", "", style, "", hits) for style, hits in {TRAINED: together, **hits_by_style}.items()
    ]


def _plain_score(measure: str, language: str, style: str, group: str, hits: Sequence[bool]) -> Score:
    return Score(measure, language, style, group, len(hits), Accuracy.of([int(hit) for hit in hits], [1] * len(hits)))


def name_records(
    names: Iterable[EmojiName], answered: Iterable[Answered], trained: Sequence[str], paintings: Iterable[Painting]
) -> list[dict[str, Any]]:
    """For each name, by language: how often it was asked for and told, and whether its paintings were recognised."""
    tallies: defaultdict[tuple[str, str, str], list[bool]] = defaultdict(list)
    for one in answered:
        if one.name and one.round.kind == "name":
            part = TRAINED if one.style in trained else one.style
            tallies[one.name.code, part, one.round.language].append(one.verdict.correct)
    painted = {(one.name.code, one.language): one for one in paintings}
    records = []
    for name in names:
        record: dict[str, Any] = {"code": name.code, "en": name.en, "zh": name.zh, "group": name.group}
        for part in (TRAINED, "openmoji"):
            found = {language: tallies[name.code, part, language] for language in TONGUES}
            if any(found.values()):
                record[part] = {language: {"right": sum(hits), "asked": len(hits)} for language, hits in found.items()}
        seen = {language: painted[name.code, language] for language in TONGUES if (name.code, language) in painted}
        if seen:
            record[PAINTED] = {
                language: {"chat": one.by_chat, "classifier": one.by_classifier, "answer": one.answer, "code": one.code}
                for language, one in seen.items()
            }
        records.append(record)
    return records


def is_weak(record: dict[str, Any]) -> bool:
    """Whether a name was missed on a trained style, or a painting of it by either judge."""
    asked = record.get(TRAINED, {}).values()
    painted = record.get(PAINTED, {}).values()
    return any(tally["right"] < tally["asked"] for tally in asked) or not all(
        one["chat"] and one["classifier"] for one in painted
    )
