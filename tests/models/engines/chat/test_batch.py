"""The batch against the plain path: same tokens, whatever else is in it, however often it is preempted."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch

from models.checkpoints.loading import LoadedChat
from models.engines.chat.decoding import Decoding, Search
from models.engines.chat.prompt import build_prompt, pack_prompts
from models.engines.chat.search.beam_search import BeamSearch
from models.engines.chat.search.sampling import Sampling
from models.engines.chat.search.vocabulary import AnswerVocabulary
from models.jobs import ChatGeneration, ChatJob
from models.networks.vision.preprocess import normalise
from tests.models.engines.chat.jobs import SIDE_PX, job, picture


def plain_ids(loaded: LoadedChat, single: ChatJob) -> list[int]:
    """The answer by the plain path: a cache and a search of the job's own."""
    generation = single.generation
    with torch.inference_mode():
        prompt = build_prompt(single, loaded.tokenizer, loaded.model.config.num_query_tokens)
        batch = pack_prompts([prompt], loaded.tokenizer)
        vocabulary = AnswerVocabulary.of_batch(batch, loaded.tokenizer)
        device = torch.device("cpu")
        search: Search
        if generation.do_sample or generation.num_beams == 1:
            search = Sampling(vocabulary, generation, single.seed, device)
        else:
            search = BeamSearch(vocabulary, generation, device)
        embeddings = None
        if prompt.num_image_tokens:
            pixels = torch.frombuffer(bytearray(single.pixels), dtype=torch.uint8).view(1, SIDE_PX, SIDE_PX, 3)
            embeddings = loaded.model.image_embeddings(normalise(pixels))[0]
        decoding = Decoding(loaded.model, batch, [embeddings], search, generation.max_new_tokens)
        while not search.is_finished:
            decoding.step()
        return search.answers[0]


QUESTIONS = ("Whatis图 日本 x<y", "Why?", "图" * 9, "a b c", "日本")


def random_job(number: int) -> ChatJob:
    """A job of some kind, drawn from its number."""
    generator = torch.Generator().manual_seed(number)

    def draw(*choices: Any) -> Any:
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    generation = ChatGeneration(
        max_new_tokens=draw(1, 2, 5, 12, 30),
        num_beams=draw(1, 2, 3, 5),
        do_sample=draw(False, False, True),
        temperature=draw(0.5, 0.7, 1.5),
        top_k=draw(0, 0, 5),
        top_p=draw(1.0, 0.9),
        repetition_penalty=draw(1.0, 1.1, 1.5),
        repetition_window=draw(None, 3),
        length_penalty=draw(0.0, 1.0, 3.0),
    )
    has_picture = draw(True, False)
    return job(
        f"job{number}",
        question=draw(*QUESTIONS),
        generation=generation,
        seed=number,
        stream=draw(True, False),
        pixels=picture(number % 5) if has_picture else b"",
        image_size_px=SIDE_PX if has_picture else 0,
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", range(40))
def test_alone_it_is_the_plain_path(make_bench: Callable[..., Any], loaded: LoadedChat, number: int) -> None:
    single = random_job(number)
    assert make_bench().run(single).token_ids == plain_ids(loaded, single)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_together_each_answers_as_alone(make_bench: Callable[..., Any], loaded: LoadedChat, seed: int) -> None:
    """Jobs come and go at any time, and some are cancelled."""
    generator = torch.Generator().manual_seed(seed)
    bench = make_bench(max_jobs=64)
    jobs = [random_job(100 * seed + number) for number in range(24)]
    cancelled = {jobs[number].job_id for number in (3, 11, 17)}
    for single in jobs:
        bench.admit(single)
        for _ in range(int(torch.randint(3, (), generator=generator))):
            bench.step()
        for job_id in cancelled & bench.open:
            bench.engine.cancel(job_id)
            bench.open.discard(job_id)
    bench.finish()
    for single in jobs:
        if single.job_id not in cancelled:
            assert bench.result(single.job_id).token_ids == plain_ids(loaded, single), single
    load = bench.engine.load
    assert (load.running, load.waiting, load.preempted, load.kv_blocks_used) == (0, 0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("num_blocks", [16, 24])
def test_preempted_ones_answer_as_alone(make_bench: Callable[..., Any], loaded: LoadedChat, num_blocks: int) -> None:
    """A pool that holds a few of them: the youngest give way again and again."""
    bench = make_bench(max_jobs=64, num_blocks=num_blocks)
    jobs = [
        msgspec.structs.replace(single, generation=msgspec.structs.replace(single.generation, max_new_tokens=80))
        for single in map(random_job, range(900, 924))
    ]
    bench.admit(*jobs)
    most_preempted = 0
    while bench.open:
        bench.step()
        load = bench.engine.load
        assert load.kv_blocks_used <= load.kv_blocks
        most_preempted = max(most_preempted, load.preempted)
    assert most_preempted > 0, "nobody was preempted, which shows nothing"
    for single in jobs:
        ids = bench.result(single.job_id).token_ids
        assert ids == plain_ids(loaded, single), single
        streamed = [token for delta in bench.deltas(single.job_id) for token in delta.token_ids]
        assert not single.stream or streamed == [i for i in ids if i != loaded.tokenizer.eos_id]
