"""What a job asks for, checked before anything is computed."""

from models.jobs import ChatGeneration, ChatJob, JobRejected


def check_generation(generation: ChatGeneration) -> None:
    """Raises JobRejected for a setting that no search can follow, or that float32 cannot hold."""
    window, penalty = generation.repetition_window, generation.repetition_penalty
    limits = [
        ("max_new_tokens", generation.max_new_tokens, generation.max_new_tokens >= 1, "at least 1"),
        ("num_beams", generation.num_beams, generation.num_beams >= 1, "at least 1"),
        ("temperature", generation.temperature, 1e-6 <= generation.temperature <= 1000, "0.000001 to 1000"),
        ("top_k", generation.top_k, generation.top_k >= 0, "at least 0"),
        ("top_p", generation.top_p, 0 < generation.top_p <= 1, "over 0 and at most 1"),
        ("repetition_penalty", penalty, 0.01 <= penalty <= 100, "0.01 to 100"),
        ("repetition_window", window, window is None or window >= 1, "at least 1"),
        ("length_penalty", generation.length_penalty, -100 <= generation.length_penalty <= 100, "-100 to 100"),
    ]
    for name, value, is_allowed, allowed in limits:
        if not is_allowed:
            raise JobRejected("invalid_request", f"{name} is {value}; it must be {allowed}")


def check_picture(job: ChatJob, image_size_px: int) -> None:
    """Raises JobRejected for pixels that are not a picture of the model's size."""
    if not job.pixels:
        return
    if job.image_size_px != image_size_px or len(job.pixels) != 3 * image_size_px**2:
        raise JobRejected(
            "invalid_request",
            f"a picture of {len(job.pixels)} bytes, said to be {job.image_size_px} px wide; this checkpoint takes "
            f"{image_size_px} px in RGB, {3 * image_size_px**2} bytes",
        )
