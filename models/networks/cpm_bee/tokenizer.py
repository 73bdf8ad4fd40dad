"""CPM-Bee's tokenizer (SPEC §2): longest match on a plain word list, special tokens in angle brackets.

`<` is written `<<` in text; `<name>` is a special token. What the vocabulary lacks becomes an extension id, held in a
table that the caller carries from text to text.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Self

RENAMED = {"</n>": "\n", "</_>": " "}  # what one line of a file cannot hold, or could not show
REQUIRED_NAMES = ("<pad>", "<unk>", "<s>", "</s>", "<root>", "<ans>", "\n", " ")


class SpecialTokenError(ValueError):
    """A text that does not parse.

    Args:
        kind: `end` for a `<` that is never closed, `nested` for one inside a special token, `unknown_special` for a
            token of a family that the vocabulary lacks.
    """

    def __init__(self, kind: Literal["end", "nested", "unknown_special"], message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Piece(NamedTuple):
    """A stretch of text that becomes one id."""

    text: str
    is_unknown: bool
    is_special: bool


class Tokenizer:
    """Text to ids and back, for one vocabulary file (UTF-8, one entry a line, the line number is the id).

    Raises:
        ValueError: an entry occurs twice, or one that the model relies on is missing.
    """

    def __init__(self, path: Path) -> None:
        # Text mode would also split at a lone carriage return, and `splitlines` at half a dozen other characters.
        lines = Path(path).read_bytes().decode("utf-8").replace("\r\n", "\n").split("\n")
        self._set_entries(line for line in lines if line)

    @classmethod
    def from_entries(cls, entries: Iterable[str]) -> Self:
        """A tokenizer of the entries as they would stand in a file, in the order of their ids."""
        tokenizer = cls.__new__(cls)
        tokenizer._set_entries(entries)
        return tokenizer

    def _set_entries(self, entries: Iterable[str]) -> None:
        names = [RENAMED.get(entry, entry) for entry in entries]
        ids = {name: index for index, name in enumerate(names)}
        if len(ids) != len(names):
            repeated = next(name for index, name in enumerate(names) if ids[name] != index)
            raise ValueError(f"vocabulary holds {repeated!r} more than once")
        missing = [name for name in REQUIRED_NAMES if name not in ids]
        if missing:
            raise ValueError(f"vocabulary of {len(names)} entries lacks {missing}; newline is '</n>', space is '</_>'")

        self.vocab_size = len(names)
        self.pad_id, self.unk_id = ids["<pad>"], ids["<unk>"]
        self.bos_id, self.eos_id = ids["<s>"], ids["</s>"]
        self.root_id, self.answer_id = ids["<root>"], ids["<ans>"]
        self.newline_id, self.space_id = ids["\n"], ids[" "]

        self.special_ids = {name: index for name, index in ids.items() if name[0] == "<" and name[-1] == ">"}
        self.max_piece_length = max(map(len, ids))
        self._plain_ids = {name: index for name, index in ids.items() if name not in self.special_ids}
        self._escaped_texts = {index: name.replace("<", "<<") for name, index in self._plain_ids.items()}
        self._escaped_texts |= {index: name for name, index in self.special_ids.items()}
        self._lengths = _lengths_by_first_character(self._plain_ids)

    @property
    def plain_entries(self) -> Collection[str]:
        """What plain text can be made of: all but the special tokens."""
        return self._plain_ids.keys()

    def pieces(self, text: str) -> list[Piece]:
        """Split a text (SPEC §2.2, §2.3). Raises SpecialTokenError on an unclosed or nested `<`."""
        result: list[Piece] = []
        for part, is_special in split_special(text):
            if is_special:
                result.append(Piece(part, False, True))
            else:
                result.extend(self._plain_pieces(part))
        return result

    def encode(self, text: str, table: Mapping[int, str]) -> tuple[list[int], dict[int, str]]:
        """Ids of a text and the extension table grown by its new strings (SPEC §2.4).

        Args:
            table: extension id -> string, of the texts before; left as it is.

        Raises:
            SpecialTokenError: an unclosed or nested `<`.
        """
        table = dict(table)
        extension_ids = {string: index for index, string in table.items()}
        ids: list[int] = []
        for piece in self.pieces(text):
            known = self.special_ids if piece.is_special else self._plain_ids
            index = known.get(piece.text)
            if index is None:
                index = extension_ids.setdefault(piece.text, self.vocab_size + len(table))
                table[index] = piece.text
            ids.append(index)
        return ids, table

    def decode(self, ids: Sequence[int], table: Mapping[int, str]) -> str:
        """Text in escaped form; strings of `table` and special tokens verbatim, negative ids skipped (SPEC §2.5).

        Raises:
            KeyError: an id in neither the table nor the vocabulary.
        """
        return "".join(table[i] if i in table else self._escaped_texts[i] for i in ids if i in table or i >= 0)

    def _plain_pieces(self, text: str) -> Iterator[Piece]:
        plain_ids, lengths_by_first = self._plain_ids, self._lengths
        unknown_from = start = 0
        while start < len(text):
            for length in lengths_by_first.get(text[start], ()):
                candidate = text[start : start + length]  # shorter at the end of the text
                if candidate in plain_ids:
                    if unknown_from < start:
                        yield Piece(text[unknown_from:start], True, False)
                    yield Piece(candidate, False, False)
                    start += len(candidate)
                    unknown_from = start
                    break
            else:
                start += 1
        if unknown_from < start:
            yield Piece(text[unknown_from:start], True, False)


def _lengths_by_first_character(names: Iterable[str]) -> dict[str, list[int]]:
    """For every first character the lengths of the names that begin with it, longest first."""
    lengths: dict[str, set[int]] = {}
    for name in names:
        lengths.setdefault(name[0], set()).add(len(name))
    return {first: sorted(found, reverse=True) for first, found in lengths.items()}


def split_special(text: str) -> Iterator[tuple[str, bool]]:
    """Plain parts, unescaped, and special tokens in turn: (text, is special); empty plain parts are left out.

    Raises:
        SpecialTokenError: an unclosed or nested `<`.
    """
    plain: list[str] = []
    position = 0
    while (opened := text.find("<", position)) >= 0:
        plain.append(text[position:opened])
        if text.startswith("<<", opened):
            plain.append("<")
            position = opened + 2
            continue
        # The character after the bracket belongs to the name whatever it is, so that `<>x>` is one token.
        closed = text.find(">", opened + 2)
        nested = text.find("<", opened + 1, closed if closed >= 0 else len(text))
        if nested >= 0:
            message = f"'<' at character {nested} inside the special token opened at character {opened}"
            raise SpecialTokenError("nested", message)
        if closed < 0:
            message = f"'<' at character {opened} opens a special token that never ends; a plain '<' is '<<'"
            raise SpecialTokenError("end", message)
        yield "".join(plain), False
        plain.clear()
        position = closed + 1
        yield text[opened:position], True
    plain.append(text[position:])
    yield "".join(plain), False


def escape(text: str) -> str:
    """Plain text in the form in which no character has a special meaning."""
    return text.replace("<", "<<")


def unescape(text: str) -> str:
    """Escaped text for display; special tokens stay verbatim, and broken escapes are let through."""
    # A special token's `<` is never followed by another one, so pairs from the left are exactly the escapes.
    return text.replace("<<", "<")
