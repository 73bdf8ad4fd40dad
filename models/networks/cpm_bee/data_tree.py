"""From a data tree to one sequence of tokens (SPEC §3): segments, their relations, renumbered extension words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from models.networks.cpm_bee.tokenizer import SpecialTokenError, Tokenizer

DataTree: TypeAlias = Mapping[str, "str | DataTree"]

ROOT = "<root>"
ANSWER_KEY = "<ans>"
IMAGE_KEY = "image"
UNKNOWN_FAMILY = "<unk>"
MAX_TREE_STEPS = 7  # more steps up or down count as this many


@dataclass(frozen=True)
class Segment:
    """A key, a string value or the root. Only string values are ever predicted or images."""

    text: str
    ancestors: tuple[int, ...]  # segment numbers from the root down to this segment itself
    is_predicted: bool = False
    is_image: bool = False


@dataclass
class PackedSequence:
    """One data tree as tokens; plain lists, one entry a token unless said otherwise."""

    ids: list[int] = field(default_factory=list)
    subs: list[int] = field(default_factory=list)  # which word of its family an extension token is; else 0
    segments: list[int] = field(default_factory=list)
    contexts: list[int] = field(default_factory=list)  # 1, or 0 where the model has to answer
    num_segments: int = 0
    segment_rel: list[int] = field(default_factory=list)  # num_segments², row-major
    image_bounds: list[tuple[int, int]] = field(default_factory=list)  # start and end of each image's placeholders
    predict_segments: list[int] = field(default_factory=list)  # numbers of the segments to be answered
    extension_table: dict[int, str] = field(default_factory=dict)  # extension id of the tokenizer -> string
    # family name -> extension id -> sub, both in order of first appearance
    families: dict[str, dict[int, int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


def pack_tree(data: DataTree, tokenizer: Tokenizer) -> PackedSequence:
    """Convert a data tree (SPEC §3).

    Raises:
        SpecialTokenError: an unclosed or nested `<`, or a special token of a family that the vocabulary lacks.
    """
    segments = list(walk_segments(data))
    packed = PackedSequence(
        num_segments=len(segments),
        segment_rel=list(_relations(tuple(segment.ancestors for segment in segments))),
        predict_segments=[number for number, segment in enumerate(segments) if segment.is_predicted],
    )
    for number, segment in enumerate(segments):
        encoded, packed.extension_table = tokenizer.encode(segment.text, packed.extension_table)
        pairs = [_renumber(index, packed, tokenizer) for index in encoded]
        pairs.insert(0, (tokenizer.bos_id, 0))
        if segment.is_image:
            packed.image_bounds.append((len(packed) + 1, len(packed) + len(pairs)))
        if not segment.is_predicted:
            pairs.append((tokenizer.eos_id, 0))
        packed.ids.extend(index for index, _ in pairs)
        packed.subs.extend(sub for _, sub in pairs)
        packed.segments.extend([number] * len(pairs))
        packed.contexts.extend([0 if segment.is_predicted else 1] * len(pairs))
    return packed


def walk_segments(data: DataTree) -> Iterator[Segment]:
    """The segments of a tree in the order of their numbers: depth first, a key before its value."""
    number = 0
    yield Segment(ROOT, (number,))

    def walk(tree: DataTree, ancestors: tuple[int, ...], top_key: str | None) -> Iterator[Segment]:
        nonlocal number
        for key, value in tree.items():
            top = key if top_key is None else top_key
            number += 1
            of_key = (*ancestors, number)
            yield Segment(key, of_key)
            if isinstance(value, str):
                number += 1
                yield Segment(value, (*of_key, number), is_predicted=top == ANSWER_KEY, is_image=top == IMAGE_KEY)
            else:
                yield from walk(value, of_key, top)

    yield from walk(data, (number,), None)


@lru_cache(maxsize=32)  # chats have the same few trees
def _relations(ancestors: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """Of every segment, by its ancestors, to every segment, row-major."""
    return tuple(relation(query, key) for query in ancestors for key in ancestors)


def relation(query: Sequence[int], key: Sequence[int]) -> int:
    """How a key's segment lies in the tree seen from a query's, of the ancestors of both; 1 stays free for pairs of
    different samples."""
    common = 0
    for a, b in zip(query, key, strict=False):
        if a != b:
            break
        common += 1
    return relation_number(len(query) - common, len(key) - common)


def relation_number(up: int, down: int) -> int:
    """Number of the relation of `up` steps to the common ancestor and `down` steps from there; 0 if there are none."""
    if up == 0 and down == 0:
        return 0
    return (MAX_TREE_STEPS + 1) * min(up, MAX_TREE_STEPS) + min(down, MAX_TREE_STEPS) + 1


def family_of(string: str) -> str:
    """The family of an extension word: `<mask_3>` -> `<mask>`; everything in plain text is `<unk>`."""
    if string[0] == "<" and string[-1] == ">":
        return f"<{string[1:-1].split('_', 1)[0]}>"
    return UNKNOWN_FAMILY


def _renumber(index: int, packed: PackedSequence, tokenizer: Tokenizer) -> tuple[int, int]:
    """(id, sub) of an id as the tokenizer gives it; an extension id becomes its family's with the next free sub."""
    string = packed.extension_table.get(index)
    if string is None:
        return index, 0
    family = family_of(string)
    family_id = tokenizer.special_ids.get(family)
    if family_id is None:
        raise SpecialTokenError("unknown_special", f"special token {string!r}: the vocabulary has no {family!r}")
    subs = packed.families.setdefault(family, {})
    return family_id, subs.setdefault(index, len(subs))
