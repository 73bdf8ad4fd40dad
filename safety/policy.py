"""The policy: what is done about what the screens find, and what users are told.

Covered: thresholds of each screen, an action for each stage and category, what the labels of a configured image
classifier mean, texts in both languages; all checked when the file is read, so that a service with a policy that cannot
be meant does not start. What a file leaves out about guard models and image classifiers is as in the bundled policy.
Not covered: what the screens see. A category that no screen of a stage judges is never found there, whatever the
policy says about it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml

from safety.categories import CATEGORIES, GUARD_CATEGORIES
from safety.verdict import IMAGE_STAGES, TEXT_STAGES, Decision, Finding, Stage, Verdict

DEFAULT_POLICY = Path(__file__).with_name("policy.yaml")
# Every screen there is, by the name under which its findings come.
TEXT_SCREENS = ("rules", "prompt-checker")
IMAGE_SCREENS = ("image-safety-classifier", "open-nsfw", "compvis")
GUARD_SCREENS = (
    "qwen3guard",
    "polyguard",
    "llama-guard-3",
    "llama-guard-4",
    "shieldgemma",
    "granite-guardian",
    "moderation",
)
IMAGE_CLASSIFIER = "image-classifier"
OPTIONAL_SCREENS = (*GUARD_SCREENS, IMAGE_CLASSIFIER)  # that a policy file may leave out
SCREENS = TEXT_SCREENS + IMAGE_SCREENS + OPTIONAL_SCREENS
HARMLESS = "none"  # in place of a category: what a label of an image classifier means that says nothing bad

Action = Literal["block", "flag", "off"]
_Threshold = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Words = Annotated[str, msgspec.Meta(min_length=1)]
_TEXT_OF: dict[Stage, Literal["input", "answer", "picture"]] = {
    "input_image": "input",
    "question": "input",
    "prompt": "input",
    "negative_prompt": "input",
    "answer": "answer",
    "preview": "picture",
    "candidate": "picture",
}


class PolicyError(ValueError):
    """A policy file says something that cannot be meant, or a screen that it does not know has spoken."""


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    en: _Words
    zh: _Words

    def in_language(self, language: str) -> str:
        return self.zh if language == "zh" else self.en


class _CategoryMessage(_Message, frozen=True, forbid_unknown_fields=True):
    categories: tuple[str, ...]


class _Texts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    input: _Message
    answer: _Message
    picture: _Message
    categories: tuple[_CategoryMessage, ...] = ()


class _Actions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    default: dict[str, Action]
    stages: dict[Stage, dict[str, Action]] = {}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    thresholds: dict[str, dict[str, _Threshold]]
    actions: _Actions
    texts: _Texts
    labels: dict[str, dict[str, str]] = {}


class Policy:
    """Turns findings into verdicts.

    Attributes:
        version: a hash of all that the file says; comments and layout do not change it.
    """

    def __init__(self, content: object) -> None:
        """Raises PolicyError, naming the place and what is allowed there."""
        file = _completed(_converted(content))
        _check(file)
        self.version = hashlib.sha256(msgspec.json.encode(file, order="deterministic")).hexdigest()[:12]
        self._thresholds = file.thresholds
        self._labels = file.labels
        self._texts = file.texts
        self._actions: dict[Stage, dict[str, Action]] = {
            stage: {**file.actions.default, **file.actions.stages.get(stage, {})}
            for stage in TEXT_STAGES + IMAGE_STAGES
        }

    def action(self, stage: Stage, category: str) -> Action:
        """What is done where this category is found at this stage."""
        return self._actions[stage][category]

    def decide(self, stage: Stage, findings: Sequence[Finding], language: str = "") -> Verdict:
        """The verdict on one content.

        Args:
            findings: of every screen that ran.
            language: that the user is spoken to in; Chinese is `zh`, all else gets English.

        Raises:
            PolicyError: no screen ran, or one that the policy does not know.
        """
        if not findings:
            raise PolicyError(f"no screen judged the {stage}")
        findings = [self._in_categories(finding) for finding in findings]
        scores: dict[str, float] = {}
        for finding in findings:
            for category, score in finding.scores.items():
                scores[category] = max(score, scores.get(category, 0.0))
        exceeded = {category for finding in findings for category in self._above(finding)}
        actions = {category: self.action(stage, category) for category in scores if category in exceeded}
        decision: Decision = (
            "block" if "block" in actions.values() else "flag" if "flag" in actions.values() else "pass"
        )
        blocked = [category for category, action in actions.items() if action == "block"]
        return Verdict(
            stage=stage,
            decision=decision,
            scores=scores,
            model="+".join(finding.screen for finding in findings),
            message=self._message(stage, blocked, language) if blocked else "",
            found=tuple(category for category, action in actions.items() if action != "off"),
            language=language if stage in TEXT_STAGES else "",
            policy=self.version,
            versions={finding.screen: finding.version for finding in findings},
        )

    def require_labels(self, screen: str) -> None:
        """Raises PolicyError where nothing is said about the labels of this image classifier."""
        if not self._labels.get(screen):
            raise PolicyError(
                f"labels: {screen} is missing; each label of its checkpoint needs a category, or {HARMLESS}"
            )

    def _in_categories(self, finding: Finding) -> Finding:
        """A classifier's labels become categories; those that mean the same are added up, to 1 at most."""
        labels = self._labels.get(finding.screen)
        if labels is None:
            return finding
        if unknown := sorted(set(finding.scores) - set(labels)):
            raise PolicyError(
                f"labels of {finding.screen}: {', '.join(unknown)} is missing; given are {', '.join(labels)}"
            )
        scores = dict.fromkeys((category for category in labels.values() if category != HARMLESS), 0.0)
        for label, score in finding.scores.items():
            if labels[label] != HARMLESS:
                scores[labels[label]] += score
        # `1.0 if` and not `min`: a score that is no number stays one, and counts as above
        return finding._replace(scores={name: 1.0 if score > 1 else score for name, score in scores.items()})

    def _above(self, finding: Finding) -> list[str]:
        if finding.screen not in self._thresholds:
            raise PolicyError(f"the safety policy has no thresholds for the screen {finding.screen!r}")
        thresholds = self._thresholds[finding.screen]
        usual = thresholds["default"]
        # Not "at most": a score that is no number counts as above.
        return [category for category, score in finding.scores.items() if not score <= thresholds.get(category, usual)]

    def _message(self, stage: Stage, blocked: Sequence[str], language: str) -> str:
        for text in self._texts.categories:
            if any(category in text.categories for category in blocked):
                return text.in_language(language)
        general: _Message = getattr(self._texts, _TEXT_OF[stage])
        return general.in_language(language)


def load_policy(path: Path | None = None) -> Policy:
    """The policy of a file, or the bundled one.

    Raises:
        PolicyError: it is not there, not YAML, or says something that cannot be meant.
    """
    path = path or DEFAULT_POLICY
    try:
        content = _read(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PolicyError(f"the safety policy {path} cannot be read: {error}") from error
    try:
        return Policy(content)
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from error


class _Loader(yaml.CSafeLoader):
    """Safe, without booleans, and refusing a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _read(path: Path) -> object:
    # YAML 1.1 reads `off` as false; here it is a word.
    return yaml.load(path.read_text("utf-8"), Loader=_Loader)


def _converted(content: object) -> _File:
    try:
        return msgspec.convert(content, _File)
    except msgspec.ValidationError as error:
        raise PolicyError(f"the safety policy is malformed: {error}") from error


def _completed(file: _File) -> _File:
    """With what the bundled policy says about screens and categories that are newer than a file may be."""
    bundled = _converted(_read(DEFAULT_POLICY))
    thresholds = {name: bundled.thresholds[name] for name in OPTIONAL_SCREENS} | file.thresholds
    default = {name: bundled.actions.default[name] for name in GUARD_CATEGORIES} | file.actions.default
    return msgspec.structs.replace(
        file,
        thresholds=thresholds,
        actions=msgspec.structs.replace(file.actions, default=default),
        labels=bundled.labels | file.labels,
    )


def _check(file: _File) -> None:
    _expect("thresholds", file.thresholds, SCREENS, needed=SCREENS)
    _expect("labels", file.labels, (IMAGE_CLASSIFIER,))
    for screen, labels in file.labels.items():
        _expect(f"labels of {screen}", dict.fromkeys(labels.values()), (*sorted(CATEGORIES), HARMLESS))
    for screen, thresholds in file.thresholds.items():
        _expect(f"thresholds of {screen}", thresholds, (*sorted(CATEGORIES), "default"), needed=("default",))
    _expect("default actions", file.actions.default, sorted(CATEGORIES), needed=sorted(CATEGORIES))
    for stage, actions in file.actions.stages.items():
        _expect(f"actions of {stage}", actions, sorted(CATEGORIES))
    for text in file.texts.categories:
        _expect("categories with a text", dict.fromkeys(text.categories), sorted(CATEGORIES))


def _expect(what: str, given: Mapping[str, object], allowed: Sequence[str], *, needed: Sequence[str] = ()) -> None:
    if unknown := sorted(set(given) - set(allowed)):
        raise PolicyError(f"{what}: {', '.join(unknown)} is unknown; allowed are {', '.join(allowed)}")
    if missing := sorted(set(needed) - set(given)):
        raise PolicyError(f"{what}: {', '.join(missing)} is missing")
