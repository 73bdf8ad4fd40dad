"""One denoising step of many samplings at once: one call of the UNet over all their rows. Jobs are unknown here."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from models.engines.oom import is_out_of_memory, release_memory
from models.engines.paint.sampling import Sampling
from models.engines.paint.unet.step_cache import StepCachingUNet
from models.jobs import JobRejected

Latents = tuple[int, ...]  # the shape of one candidate's
Failures = dict[int, Exception]  # by the place among the samplings


@dataclass
class _Texts:
    """What the rows of one call attend to, kept while the same rows come again; so are keys and values of them."""

    states: Tensor  # (rows, L, W)
    mask: Tensor | None  # (rows, L) bool, where lengths differ


@dataclass
class _Group:
    """Samplings of one size that take a step of one kind."""

    is_shallow: bool = False
    rows_per_call: int | None = None  # None: all at once
    texts_key: tuple[int, ...] = ()  # rows a call, and the samplings' numbers
    texts: list[_Texts] = field(default_factory=list)  # one a call


class DenoisingBatch:
    """Advances samplings of any sizes, steps, samplers, guidances and texts; those of one size share one call.

    A sampling's numbers do not depend on its neighbours beyond the rounding of differently sized products.

    Args:
        full_every: of each sampling's steps, one in so many runs the whole UNet, the others its outer blocks.
    """

    def __init__(self, unet: UNet2DConditionModel, full_every: int = 1) -> None:
        self.unet = unet
        self.full_every = full_every
        self._caching = StepCachingUNet(unet) if full_every > 1 else None
        self._groups: dict[tuple[Latents, bool], _Group] = {}

    @torch.inference_mode()
    def step(self, samplings: Sequence[Sampling]) -> Failures:
        """Take each sampling's next step, or fail it alone, its state as before.

        Failures are `JobRejected` (`generation_failed`) where latents are no longer finite, and out of memory where
        even a single row does not fit.
        """
        places: defaultdict[tuple[Latents, bool], list[int]] = defaultdict(list)
        for place, sampling in enumerate(samplings):
            is_shallow = sampling.num_steps_done % self.full_every > 0
            places[tuple(sampling.latents.shape[1:]), is_shallow].append(place)
        self._groups = {
            key: group for key, group in self._groups.items() if any(key[0] == size for size, _ in places)
        }  # what ran out is forgotten
        failures: Failures = {}
        for key, of_key in places.items():
            group = self._groups.setdefault(key, _Group(is_shallow=key[1]))
            failed = self._step_or_split([samplings[place] for place in of_key], group)
            failures |= {of_key[place]: error for place, error in failed.items()}
        return failures

    def clear(self) -> None:
        """Let go of what was kept for the samplings of the last step."""
        self._groups = {}

    def _step_or_split(self, samplings: list[Sampling], group: _Group) -> Failures:
        """All at once; in halves where memory is short beside the UNet's call, which goes on in parts by itself."""
        try:
            return self._step_group(samplings, group)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            lost = error.with_traceback(None)  # which would keep tensors alive
        group.texts_key, group.texts = (), []
        release_memory(samplings[0].latents.device)
        if len(samplings) == 1:
            return {0: lost}
        half = len(samplings) // 2
        later = self._step_or_split(samplings[half:], group)
        return self._step_or_split(samplings[:half], group) | {half + place: error for place, error in later.items()}

    def _step_group(self, samplings: list[Sampling], group: _Group) -> Failures:
        device = samplings[0].latents.device
        counts = [sampling.num_candidates for sampling in samplings]
        latents = torch.cat([sampling.latents for sampling in samplings])  # (n, C, h, w)
        rows = [
            (*astuple(sampling.next_step), sampling.guidance_scale)
            for sampling, count in zip(samplings, counts, strict=True)
            for _ in range(count)
        ]
        numbers = torch.tensor(rows, dtype=torch.float32).to(device, non_blocking=True)  # (n, 10)
        timesteps = numbers[:, 0]
        scale, from_latents, from_prediction, keep, towards, towards_previous, noise, _, guidance = (
            column[:, None, None, None] for column in numbers[:, 1:].unbind(1)
        )

        doubled = torch.cat([latents * scale] * 2).to(self.unet.dtype)  # all negative rows, then all conditional ones
        predictions, lost = self._predict(doubled, torch.cat([timesteps] * 2), samplings, group)
        negative, conditional = predictions.float().chunk(2)
        prediction = negative + guidance * (conditional - negative)
        x0 = from_latents * latents + from_prediction * prediction
        previous = torch.cat([sampling.predicted_latents for sampling in samplings])
        drawn = torch.cat([sampling.draw() for sampling in samplings]).to(device, non_blocking=True)
        following = keep * latents + towards * x0 + towards_previous * previous + noise * drawn

        finite = torch.isfinite(following).flatten(1).all(dim=1).tolist()  # the one wait for the device
        failures: Failures = {}
        parts = zip(*(tensor.split(counts) for tensor in (following, x0, prediction)), strict=True)
        start = 0
        for place, (sampling, part) in enumerate(zip(samplings, parts, strict=True)):
            of_sampling = range(start, start := start + sampling.num_candidates)
            if error := next((lost[row] for row in of_sampling if row in lost), None):
                failures[place] = error
            elif bad := [row - of_sampling.start for row in of_sampling if not finite[row]]:
                failures[place] = self._not_finite(sampling, bad)
            else:
                sampling.advance(*part)
        return failures

    def _predict(
        self, rows: Tensor, timesteps: Tensor, samplings: list[Sampling], group: _Group
    ) -> tuple[Tensor, Mapping[int, Exception]]:
        """The UNet on all rows (2n, C, h, w), in as few calls as memory allows, and the candidates that do not fit.

        Out of memory, it goes on in halves, and stays with what fitted as long as there are samplings of this size.
        """
        while True:
            size = min(group.rows_per_call or len(rows), len(rows))
            texts = self._texts(samplings, group, size)
            kept = self._kept(samplings, size) if group.is_shallow else [None] * len(texts)
            calls = list(zip(rows.split(size), timesteps.split(size), texts, kept, strict=True))
            predictions: list[Tensor] = []
            deep: list[Tensor] = []
            lost: dict[int, Exception] = {}
            for number, call in enumerate(calls):
                try:
                    predictions.append(self._call(*call, deep))
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    if size > 1:
                        break
                    lost[number % (len(rows) // 2)] = error.with_traceback(None)  # which would keep tensors alive
                    predictions.append(torch.zeros_like(call[0]))
            if len(predictions) == len(calls):
                if len(deep) == len(calls):
                    _keep_deep(samplings, torch.cat(deep))
                return torch.cat(predictions), lost
            predictions.clear()
            deep.clear()
            group.rows_per_call = (size + 1) // 2
            release_memory(rows.device)

    def _call(self, rows: Tensor, times: Tensor, texts: _Texts, kept: Tensor | None, deep: list[Tensor]) -> Tensor:
        if self._caching is None:
            arguments = {} if texts.mask is None else {"encoder_attention_mask": texts.mask}
            prediction: Tensor = self.unet(rows, times, texts.states, return_dict=False, **arguments)[0]
            return prediction
        if kept is not None:
            return self._caching.shallow(rows, times, texts.states, texts.mask, kept)
        prediction, features = self._caching.full(rows, times, texts.states, texts.mask)
        deep.append(features)
        return prediction

    def _kept(self, samplings: list[Sampling], rows_per_call: int) -> tuple[Tensor, ...]:
        """The deep features of all rows in the order of the rows."""
        pairs = [sampling.deep for sampling in samplings if sampling.deep is not None]
        return torch.cat([negative for negative, _ in pairs] + [other for _, other in pairs]).split(rows_per_call)

    def _texts(self, samplings: list[Sampling], group: _Group, rows_per_call: int) -> list[_Texts]:
        key = (rows_per_call, *(sampling.number for sampling in samplings))
        if key != group.texts_key:
            group.texts_key, group.texts = key, []  # the old ones go before the new ones come
            texts = [sampling.negative_texts for sampling in samplings] + [sampling.texts for sampling in samplings]
            states, mask = pad_texts([each.to(self.unet.dtype) for each in texts])
            masks = [None] * len(states) if mask is None else mask.split(rows_per_call)
            group.texts = [_Texts(*pair) for pair in zip(states.split(rows_per_call), masks, strict=False)]
        return group.texts

    def _not_finite(self, sampling: Sampling, bad: list[int]) -> JobRejected:
        return JobRejected(
            "generation_failed",
            f"latents of candidates {bad} are not finite after step {sampling.num_steps_done + 1} of "
            f"{sampling.num_steps} in {str(self.unet.dtype).removeprefix('torch.')}",
        )


def _keep_deep(samplings: Sequence[Sampling], deep: Tensor) -> None:
    """Give each sampling its rows of the features (2n, C, h, w)."""
    counts = [sampling.num_candidates for sampling in samplings]
    negative, others = deep.chunk(2)
    for sampling, *pair in zip(samplings, negative.split(counts), others.split(counts), strict=True):
        sampling.deep = (pair[0].clone(), pair[1].clone())  # or a neighbour that ends would keep all alive


def pad_texts(texts: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Texts (n, L, W) each of a length of its own, as (rows, longest L, W), and what is theirs (rows, longest L).

    No mask where all are of one length: the padding that a request's own two texts have is attended to (SPEC §8.1).
    """
    longest = max(text.shape[1] for text in texts)
    if all(text.shape[1] == longest for text in texts):
        return torch.cat(list(texts)), None
    states = torch.cat([torch.nn.functional.pad(text, (0, 0, 0, longest - text.shape[1])) for text in texts])
    lengths = torch.tensor([text.shape[1] for text in texts for _ in range(len(text))], device=states.device)
    return states, torch.arange(longest, device=states.device) < lengths[:, None]
