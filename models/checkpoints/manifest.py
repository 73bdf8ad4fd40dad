"""Published parameter names with shapes and dtypes, of a full-size model that takes no memory."""

from models.checkpoints.config_from_shapes import PUBLISHED_CHAT, PUBLISHED_PAINT
from models.checkpoints.published_names import UNUSED_IN_CHAT, Kind, published_name
from models.checkpoints.weights import skeleton

KINDS: dict[str, Kind] = {
    "chat-v1.1": "chat",
    "chat-balance": "chat",
    "chat-zhplus": "chat",
    "paint-balance": "paint",
    "paint-zhplus": "paint",
}


def manifest(name: str) -> dict[str, tuple[list[int], str]]:
    """Key -> (shape, dtype) of a published checkpoint, tensors that no model uses included (SPEC §1)."""
    kind = KINDS[name]
    model = skeleton(PUBLISHED_CHAT if kind == "chat" else PUBLISHED_PAINT)
    shapes = {published_name(kind, ours): list(tensor.shape) for ours, tensor in model.state_dict().items()}
    if kind == "chat":
        shapes |= {published: list(shape) for published, shape in UNUSED_IN_CHAT.items()}
    return {published: (shape, _stored_dtype(kind, published)) for published, shape in sorted(shapes.items())}


def _stored_dtype(kind: Kind, published: str) -> str:
    return "float16" if kind == "chat" or published.startswith("llm.") else "float32"
