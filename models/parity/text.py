"""Text against the reference: tokenizer, data trees, packing. All of it integers and strings, so all of it exact."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from models.engines.chat.prompt import chat_tree
from models.engines.paint.prompt import paint_tree
from models.networks.cpm_bee.data_tree import ANSWER_KEY, PackedSequence, pack_tree, relation_number
from models.networks.cpm_bee.packing import PackedBatch, number_answers, pack_chat, pack_paint, pack_training
from models.networks.cpm_bee.tokenizer import Tokenizer, escape
from models.parity.fixtures import Fixtures
from models.parity.report import Report

ERRORS = {"ValueError": ValueError, "KeyError": KeyError}

# Field of a per-token array in the reference's files -> field of PackedBatch.
FULL_FORWARD_FIELDS = {
    "input_ids": "ids",
    "input_id_subs": "subs",
    "context": "contexts",
    "segment_ids": "segments",
    "segment_rel_offset": "segment_rel_offsets",
    "sample_ids": "samples",
    "num_segments": "num_segments",
    "span": "spans",
}
CHAT_FIELDS = {
    "input_ids": "ids",
    "input_id_subs": "subs",
    "input_pos": "positions",
    "context": "contexts",
    "segment_ids": "segments",
    "segment_rel_offset": "segment_rel_offsets",
    "sample_idx": "samples",
    "num_segments": "num_segments",
}


def check_tokenizer(fixtures: Fixtures, report: Report) -> None:
    """Vocabulary, splitting, ids, extension tables, decoding, and the texts that have to be refused (SPEC §2)."""
    expected = fixtures.json("tokenizer.json")
    tokenizer = Tokenizer(fixtures.path("vocab.txt"))
    report.exact("tokenizer vocab_size", tokenizer.vocab_size, expected["vocab_size"])
    report.exact("tokenizer max_word_len", tokenizer.max_piece_length, expected["max_word_len"])
    report.exact("tokenizer special_tokens", tokenizer.special_ids, expected["special_tokens"])
    ids = {
        "unk": tokenizer.unk_id,
        "mask": tokenizer.special_ids.get("<mask>"),
        "bos": tokenizer.bos_id,
        "eos": tokenizer.eos_id,
        "newline": tokenizer.newline_id,
        "space": tokenizer.space_id,
    }
    report.exact("tokenizer ids", {name: ids.get(name) for name in expected["ids"]}, expected["ids"])

    _compare_encodings(report, tokenizer, expected["encode"])
    table: dict[int, str] = {}
    for index, row in enumerate(expected["encode_chain"]):
        chained, table = tokenizer.encode(row["text"], table)
        report.exact(f"tokenizer encode_chain[{index}]", (chained, table), (row["ids"], _table(row["ext_table_after"])))
    rows = expected["decode"]
    decoded = (tokenizer.decode(row["ids"], _table(row["ext_table"] or {})) for row in rows)
    _exact_each(report, "tokenizer decode", decoded, _column(rows, "text"))
    refused = [
        (partial(tokenizer.encode, row["text"], {}), row["error"], row.get("kind")) for row in expected["encode_errors"]
    ]
    _refused(report, "tokenizer encode_errors", refused)
    unknown = [(partial(tokenizer.decode, row["ids"], {}), row["error"], None) for row in expected["decode_errors"]]
    _refused(report, "tokenizer decode_errors", unknown)


def check_data_trees(fixtures: Fixtures, report: Report) -> None:
    """Conversion of chat prompts and of general trees, refusals, the length limit, tree relations (SPEC §3, §6)."""
    expected = fixtures.json("data_to_id.json")
    tokenizer = Tokenizer(fixtures.path("vocab.txt"))
    num_queries = expected["query_num"]
    for index, row in enumerate(expected["chat"]):
        data, name = row["data"], f"data_to_id chat[{index}]"
        prompt = chat_tree(data["question"], data["context"], num_queries)
        report.exact(f"{name} tree", list(prompt.items()), list(data.items()))
        numbered = {**data, ANSWER_KEY: number_answers(data[ANSWER_KEY])}
        _compare_sequence(report, name, pack_tree(numbered, tokenizer), row["converted"])
        batch = pack_chat([data], tokenizer)
        _compare_chat_batch(report, name, batch, {key: [value] for key, value in row["model_input"].items()})
        report.exact(f"{name} image_bound", _lists(batch.image_bounds[0]), row["model_input"]["image_bound"])
        report.exact(f"{name} predict_segments", _lists(batch.predict_segments[0]), row["predict_segments"])
        report.exact(f"{name} answers", len(batch.predict_segments[0]), len(row["answer_placeholders"]))
        report.exact(f"{name} decode_ext_table", batch.decode_tables[0], _table(row["decode_ext_table"]))
    for index, row in enumerate(expected["trees"]):
        _compare_sequence(report, f"data_to_id trees[{index}]", pack_tree(row["data"], tokenizer), row["converted"])

    def convert(question: str, limit: int | None = None) -> PackedBatch:
        return pack_chat([chat_tree(question, "", num_queries)], tokenizer, limit)

    refused = [(partial(convert, row["question"]), row["error"], row.get("kind")) for row in expected["errors"]]
    _refused(report, "data_to_id errors", refused)
    truncation = expected["truncation"]
    question = truncation["question"]
    # The answer leaf, taken out of the model's input, is two tokens: bos and the placeholder.
    report.exact("data_to_id truncation full_length", int(convert(question).lengths[0]) + 2, truncation["full_length"])
    for row in truncation["results"]:
        limit = row["max_inp_length"]
        name = f"data_to_id truncation at {limit}"
        if row["ok"]:
            report.exact(name, int(convert(question, limit).lengths[0]), row["n"])
        else:
            _refused(report, name, [(partial(convert, question, limit), "ValueError", None)])
    triples = expected["rel_bucket"]
    _exact_each(
        report, "data_to_id rel_bucket", (relation_number(up, down) for up, down, _ in triples), (t[2] for t in triples)
    )


def check_batch(fixtures: Fixtures, report: Report) -> None:
    """Two prompts of different length, padded on the left (SPEC §7)."""
    expected = fixtures.json("batch.json")
    if not fixtures.has("data_to_id.json"):
        report.note("batch model_input", "needs data_to_id.json")
        return
    tokenizer = Tokenizer(fixtures.path("vocab.txt"))
    prompts = fixtures.json("data_to_id.json")["chat"]
    batch = pack_chat([prompts[index]["data"] for index in expected["prompt_indices"]], tokenizer)
    report.exact("batch lengths", batch.lengths.tolist(), expected["lengths"])
    report.exact("batch padded_length", batch.ids.shape[1], expected["padded_length"])
    _compare_chat_batch(report, "batch", batch, expected["model_input"])
    report.exact(
        "batch predict_segments", [_lists(row) for row in batch.predict_segments], expected["predict_segments"]
    )
    report.exact("batch decode_ext_table", batch.decode_tables, [_table(row) for row in expected["decode_ext_table"]])


def check_paint_text(fixtures: Fixtures, report: Report) -> None:
    """Prompt and negative prompt, padded on the right to the longer (SPEC §8.1)."""
    tokenizer = Tokenizer(fixtures.path("vocab.txt"))
    for index, row in enumerate(fixtures.json("paint_text.json")):
        texts = [paint_tree(row["prompt"]), paint_tree(row["negative_prompt"] or "")]
        batch = pack_paint(texts, tokenizer)
        for place, kind in enumerate(("cond", "uncond")):
            expected, name = row[kind], f"paint_text[{index}] {kind}"
            for field, ours in FULL_FORWARD_FIELDS.items():
                report.exact(f"{name} {field}", getattr(batch, ours)[place].tolist(), list(map(int, expected[field])))
            report.exact(f"{name} segment_rel", *_relations(batch, place, expected["segment_rel"]))
            report.exact(f"{name} length", batch.lengths[place].item(), expected["length"][0])
            # The reference packs each text by itself, so each has extension columns of its own.
            alone = pack_paint([texts[place]], tokenizer)
            report.exact(f"{name} ext_table_ids", alone.extension_ids.tolist(), expected["ext_table_ids"])
            report.exact(f"{name} ext_table_sub", alone.extension_subs.tolist(), expected["ext_table_sub"])


def check_training_batch(fixtures: Fixtures, report: Report) -> None:
    """Samples with answers as training packs them, with the reference's repeated columns, and targets (SPEC §9)."""
    described, expected = fixtures.json("forward.json"), fixtures.tensors("forward.safetensors")
    tokenizer = Tokenizer(fixtures.path("vocab.txt"))
    samples = [sample["data"] for sample in described["samples"]]
    batch, targets = pack_training(samples, tokenizer, described["max_len"], duplicates=True)
    for field, ours in FULL_FORWARD_FIELDS.items():
        report.exact(f"forward {field}", getattr(batch, ours).tolist(), expected[field].tolist())
    for row in range(len(samples)):
        report.exact(f"forward segment_rel[{row}]", *_relations(batch, row, expected["segment_rel"][row].tolist()))
    report.exact("forward length", batch.lengths.tolist(), expected["length"].tolist())
    report.exact("forward target", targets.tolist(), expected["target"].tolist())
    report.exact("forward ext_table_ids", batch.extension_ids.tolist(), expected["ext_table_ids"].tolist())
    report.exact("forward ext_table_sub", batch.extension_subs.tolist(), expected["ext_table_sub"].tolist())
    report.exact("forward image_bound", [_lists(row) for row in batch.image_bounds], expected["image_bound"].tolist())


CHECKS: dict[str, Callable[[Fixtures, Report], None]] = {
    "tokenizer.json": check_tokenizer,
    "data_to_id.json": check_data_trees,
    "batch.json": check_batch,
    "paint_text.json": check_paint_text,
    "forward.json": check_training_batch,
}
COVERS: dict[str, tuple[str, ...]] = {
    "tokenizer.json": ("tokenizer.json", "vocab.txt"),
    "data_to_id.json": ("data_to_id.json", "vocab.txt"),
    "batch.json": ("batch.json",),
    "paint_text.json": ("paint_text.json",),
    "forward.json": ("forward.json", "forward.safetensors"),
}


def _compare_encodings(report: Report, tokenizer: Tokenizer, rows: list[dict[str, Any]]) -> None:
    """Each text split, encoded, and decoded with and without its extension table."""
    encoded = [tokenizer.encode(row["text"], {}) for row in rows]
    pieces = ([list(piece) for piece in tokenizer.pieces(row["text"])] for row in rows)
    _exact_each(report, "tokenizer pieces", pieces, _column(rows, "pieces"))
    _exact_each(report, "tokenizer encode", (ids for ids, _ in encoded), _column(rows, "ids"))
    _exact_each(report, "tokenizer ext_table", (table for _, table in encoded), map(_table, _column(rows, "ext_table")))
    decoded = (tokenizer.decode(ids, table) for ids, table in encoded)
    _exact_each(report, "tokenizer decoded", decoded, _column(rows, "decoded"))
    _exact_each(report, "tokenizer escaped", (escape(row["text"]) for row in rows), _column(rows, "escaped"))
    # A row holds either what its ids decode to without the table, or the error that they raise.
    plain = [row for row in rows if "decoded_without_ext_table" in row]
    decoded = (tokenizer.decode(row["ids"], {}) for row in plain)
    _exact_each(report, "tokenizer decoded without table", decoded, _column(plain, "decoded_without_ext_table"))
    key = "decoded_without_ext_table_error"
    refused = [(partial(tokenizer.decode, row["ids"], {}), row[key], None) for row in rows if key in row]
    _refused(report, "tokenizer refused without table", refused)


def _compare_sequence(report: Report, name: str, got: PackedSequence, expected: dict[str, Any]) -> None:
    """A converted tree before anything is removed from it."""
    report.exact(f"{name} input_ids", got.ids, expected["input_ids"])
    report.exact(f"{name} input_id_subs", got.subs, expected["input_id_subs"])
    report.exact(f"{name} context", got.contexts, expected["context"])
    report.exact(f"{name} segment_ids", got.segments, expected["segment_ids"])
    report.exact(f"{name} num_segments", got.num_segments, expected["num_segments"])
    report.exact(f"{name} segment_rel", got.segment_rel, [value for row in expected["segment_rel"] for value in row])
    report.exact(f"{name} converted image_bound", _lists(got.image_bounds), expected["image_bound"])
    report.exact(f"{name} ext_table", got.extension_table, _table(expected["ext_table"]))
    families = {
        family: {int(key): sub for key, sub in subs.items()} for family, subs in expected["token_id_table"].items()
    }
    report.exact(f"{name} token_id_table", got.families, families)


def _compare_chat_batch(report: Report, name: str, batch: PackedBatch, expected: dict[str, Any]) -> None:
    """All arrays of a left-padded batch; every field of `expected` has one entry a row, but for the columns."""
    for field, ours in CHAT_FIELDS.items():
        report.exact(f"{name} model_input {field}", getattr(batch, ours).tolist(), expected[field])
    for row, relations in enumerate(expected["segment_rel"]):
        report.exact(f"{name} model_input segment_rel[{row}]", *_relations(batch, row, relations))
    for field, columns in (("batch_ext_table_ids", batch.extension_ids), ("batch_ext_table_sub", batch.extension_subs)):
        report.exact(f"{name} model_input {field}", columns.tolist(), _flat(expected[field]))


def _relations(batch: PackedBatch, row: int, expected: list[int]) -> tuple[list[int], list[int]]:
    """The n² entries that count; files pad them to other widths (SPEC §16)."""
    entries = int(batch.num_segments[row].max()) ** 2
    return batch.segment_rel[row, :entries].tolist(), expected[:entries]


def _exact_each(report: Report, name: str, got: Iterable[object], expected: Iterable[object]) -> None:
    """One line for a list of cases; the first that differs is named."""
    got, expected = list(got), list(expected)
    for index, (a, b) in enumerate(zip(got, expected, strict=True)):
        if a != b:
            report.exact(f"{name}[{index}]", a, b)
            return
    report.exact(f"{name} ({len(got)} cases)", got, expected)


def _refused(report: Report, name: str, cases: Sequence[tuple[Callable[[], object], str, str | None]]) -> None:
    """Each call has to raise an error of the given name, and of the given kind where one is given."""

    def outcome(call: Callable[[], object], error: str, kind: str | None) -> tuple[str, str | None]:
        try:
            call()
        except ERRORS[error] as raised:
            return error, kind and getattr(raised, "kind", None)
        return "accepted", None

    _exact_each(report, name, (outcome(*case) for case in cases), (case[1:] for case in cases))


def _column(rows: list[dict[str, Any]], key: str) -> Iterable[Any]:
    return (row[key] for row in rows)


def _table(table: dict[str, str]) -> dict[int, str]:
    """An extension table of a JSON file, whose keys are strings."""
    return {int(key): string for key, string in table.items()}


def _lists(pairs: list[tuple[int, int]]) -> list[list[int]]:
    return [list(pair) for pair in pairs]


def _flat(columns: list[Any]) -> list[int]:
    """Columns of a batch, or of a single prompt wrapped as a batch of one."""
    return columns[0] if columns and isinstance(columns[0], list) else columns
