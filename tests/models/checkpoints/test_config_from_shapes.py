from models.checkpoints.config_from_shapes import PUBLISHED_LLM, llm_config


def test_a_model_of_published_width_is_held_to_the_published_sizes() -> None:
    shapes = {f"llm.layers.{layer}.attention_norm.weight": (4096,) for layer in range(48)}
    shapes["llm.embedding.weight"] = (90000, 4096)
    shapes["llm.position_bias.weight"] = (512, 16)  # would be taken for 16 heads of 256
    config = llm_config(shapes)
    assert (config.num_heads, config.dim_head, config.vocab_size) == (32, 128, 90000)
    assert config.dim_ff == PUBLISHED_LLM.dim_ff
