"""How well a Chat model in training does on held-out conversations: its loss, and its answers where they are short."""

from collections import Counter
from collections.abc import Sequence

from models.checkpoints.loading import LoadedChat
from models.datasets.examples import Conversation
from models.evaluation.asking import PictureQuestions, ask
from models.jobs import ChatGeneration
from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.tokenizer import Tokenizer

MAX_ANSWER_TOKENS = 32


def exact_matches(model: ChatModel, tokenizer: Tokenizer, conversations: Sequence[Conversation]) -> dict[str, float]:
    """Share of greedy answers equal to the letter, by kind and language, of the rounds that have a kind.

    As with users, a follow-up's history holds the model's own answers.
    """
    asked = [
        (conversation, PictureQuestions(conversation.pixels, tuple(turn.question for turn in conversation.rounds)))
        for conversation in conversations
        if conversation.pixels is not None and any(turn.kind for turn in conversation.rounds)
    ]
    if not asked:
        return {}
    chat = LoadedChat(model, tokenizer, model.config, fingerprint="", untrained=False)
    generation = ChatGeneration(num_beams=1, max_new_tokens=MAX_ANSWER_TOKENS)
    answers = ask(chat, [conversation for _, conversation in asked], generation)
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for (conversation, _), given in zip(asked, answers, strict=True):
        for turn, answer in zip(conversation.rounds, given, strict=True):
            if turn.kind:
                for name in ("exact", f"exact_{turn.kind}_{turn.language}"):
                    total[name] += 1
                    right[name] += answer == turn.answer
    return {name: right[name] / count for name, count in sorted(total.items())}
