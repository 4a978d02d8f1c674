"""Every family goes the whole way, and its loss is what diffusers' example scripts compute."""

from __future__ import annotations

import errno
import json
import re
import threading
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import huggingface_hub.errors as hub
import pytest
import torch
from diffusers import DDPMScheduler, Flux2KleinPipeline, StableDiffusionPipeline
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from personalization import bases
from personalization.adapters import adapter as adapters
from personalization.adapters import formats
from personalization.adapters.adapter import Adapter
from personalization.bases import CATALOG, loading, schedulers
from personalization.bases.base import Base, Conditioning
from personalization.bases.flow import FlowBase
from personalization.bases.guides import DEPTH_MODEL, REFERENCES, STRUCTURES
from personalization.bases.learned_embedding import extended_tokenizer
from personalization.bases.ready import READY
from personalization.errors import BaseError, RecipeError
from personalization.events import Finished, SliceEnded
from personalization.methods import installed
from personalization.recipe import Full, LearnedEmbedding, LowRank, Prior, Recipe
from personalization.sampling.generate import draw_each, draw_latents
from personalization.sampling.settings import Settings, Start
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack
from personalization.training import loop
from personalization.training.objective import squared_error
from personalization.training.run import Run
from personalization.training.start import start
from tests.support import tiny
from tests.support.single_file import save_single_file

FAMILIES = ("sd15", "sd21", "sdxl", "sd35-medium", "flux2-klein", "z-image")
PROMPTS = ["a photo of dog", "a red cat"]
FAST = 2e-2  # a learning rate at which two steps are seen


@cache
def base(name: str) -> Base:
    return tiny.family_base(name)


def batch(name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels, the autoencoder's noise, the diffusion's, and u."""
    rng = torch.Generator().manual_seed(4)
    pixels = torch.rand(2, 3, 32, 32, generator=rng) * 2 - 1
    shape = base(name).encode_images(pixels).mean.shape
    return (
        pixels,
        torch.randn(shape, generator=rng),
        torch.randn(shape, generator=rng),
        torch.tensor([0.2, 0.71]),
    )


def loss(
    base: Base, latents: Tensor, conditioning: Conditioning, noise: Tensor, u: Tensor
) -> Tensor:
    prediction = base.predict(latents, conditioning, noise, u)
    return squared_error(prediction, base.target(latents, noise, u))


def ours(name: str) -> Tensor:
    pixels, grain, noise, u = batch(name)
    with torch.no_grad():
        latents = base(name).encode_images(pixels).sample(grain)
        return loss(base(name), latents, base(name).encode_prompts(PROMPTS), noise, u).mean()


def ids(tokenizer: Any, length: int | None = None) -> Tensor:
    return tokenizer(
        PROMPTS,
        padding="max_length",
        max_length=length or tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids


def assert_close(loss: Tensor, reference: Tensor) -> None:
    assert abs(loss - reference) / reference < 1e-5


@pytest.mark.parametrize("name", ["sd15", "sd21"])
@torch.no_grad()
def test_the_loss_of_stable_diffusion_is_that_of_train_dreambooth(name: str) -> None:
    # examples/dreambooth/train_dreambooth_lora.py and train_dreambooth.py, the training loop.
    pipe = tiny.family_pipeline(name)
    pixels, grain, noise, _ = batch(name)
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    posterior = pipe.vae.encode(pixels).latent_dist
    x = (posterior.mean + posterior.std * grain) * pipe.vae.config.scaling_factor
    t = torch.tensor([200, 710])
    hidden = pipe.text_encoder(ids(pipe.tokenizer))[0]
    prediction = pipe.unet(scheduler.add_noise(x, noise, t), t, hidden, return_dict=False)[0]
    target = noise if name == "sd15" else scheduler.get_velocity(x, noise, t)
    assert scheduler.config.prediction_type == ("epsilon" if name == "sd15" else "v_prediction")
    assert_close(ours(name), functional.mse_loss(prediction, target))


@torch.no_grad()
def test_the_loss_of_xl_is_that_of_train_dreambooth_lora_sdxl() -> None:
    # examples/dreambooth/train_dreambooth_lora_sdxl.py: encode_prompt, compute_time_ids, the loop.
    pipe = tiny.family_pipeline("sdxl")
    pixels, grain, noise, _ = batch("sdxl")
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    posterior = pipe.vae.encode(pixels).latent_dist
    x = (posterior.mean + posterior.std * grain) * pipe.vae.config.scaling_factor
    t = torch.tensor([200, 710])
    first = pipe.text_encoder(ids(pipe.tokenizer), output_hidden_states=True)
    # The tiny tokenizer's last id is not its largest, as CLIP's is: say where the end is.
    pipe.text_encoder_2.text_model.eos_token_id = pipe.tokenizer_2.eos_token_id
    second = pipe.text_encoder_2(ids(pipe.tokenizer_2), output_hidden_states=True)
    added = {
        "text_embeds": second[0],
        # original_size, crops_coords_top_left, target_size
        "time_ids": torch.tensor([[32, 32, 0, 0, 32, 32]] * 2),
    }
    prediction = pipe.unet(
        scheduler.add_noise(x, noise, t),
        t,
        torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1),
        added_cond_kwargs=added,
        return_dict=False,
    )[0]
    assert_close(ours("sdxl"), functional.mse_loss(prediction, noise))


@torch.no_grad()
def test_the_loss_of_sd3_is_that_of_train_dreambooth_lora_sd3() -> None:
    # examples/dreambooth/train_dreambooth_lora_sd3.py with its defaults: weighting_scheme
    # logit_normal (which weighs by one), precondition_outputs 1; T5 at the pipelines' 256 tokens.
    pipe = tiny.family_pipeline("sd35-medium")
    pixels, grain, noise, u = batch("sd35-medium")
    posterior = pipe.vae.encode(pixels).latent_dist
    x = posterior.mean + posterior.std * grain
    x = (x - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor
    # compute_density_for_timestep_sampling: the sigmoid of a normal, here the u-th quantile of it.
    normal = torch.distributions.Normal(0.0, 1.0).icdf(u)
    indices = (torch.sigmoid(normal) * 1000).long()
    timesteps = pipe.scheduler.timesteps[indices]
    sigmas = pipe.scheduler.sigmas[indices].view(-1, 1, 1, 1)
    noisy = (1.0 - sigmas) * x + sigmas * noise
    pipe.text_encoder_2.text_model.eos_token_id = pipe.tokenizer_2.eos_token_id
    clips = [
        encoder(ids(tokenizer), output_hidden_states=True)
        for encoder, tokenizer in (
            (pipe.text_encoder, pipe.tokenizer),
            (pipe.text_encoder_2, pipe.tokenizer_2),
        )
    ]
    t5 = pipe.text_encoder_3(ids(pipe.tokenizer_3, 256))[0]
    clip = torch.cat([said.hidden_states[-2] for said in clips], dim=-1)
    clip = functional.pad(clip, (0, t5.shape[-1] - clip.shape[-1]))
    velocity = pipe.transformer(
        hidden_states=noisy,
        timestep=timesteps,
        encoder_hidden_states=torch.cat([clip, t5], dim=-2),
        pooled_projections=torch.cat([said[0] for said in clips], dim=-1),
        return_dict=False,
    )[0]
    prediction = velocity * (-sigmas) + noisy
    assert_close(ours("sd35-medium"), ((prediction - x) ** 2).reshape(2, -1).mean(1).mean())


@torch.no_grad()
def test_the_loss_of_klein_is_that_of_train_dreambooth_lora_flux2_klein() -> None:
    # examples/dreambooth/train_dreambooth_lora_flux2_klein.py: weighting_scheme none.
    pipe = tiny.family_pipeline("flux2-klein")
    pixels, _, noise, u = batch("flux2-klein")
    x = pipe.vae.encode(pixels).latent_dist.mode()
    batched, channels, height, width = x.shape
    x = x.view(batched, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
    x = x.reshape(batched, channels * 4, height // 2, width // 2)
    mean = pipe.vae.bn.running_mean.view(1, -1, 1, 1)
    std = torch.sqrt(pipe.vae.bn.running_var.view(1, -1, 1, 1) + pipe.vae.config.batch_norm_eps)
    x = (x - mean) / std
    timesteps = pipe.scheduler.timesteps[(u * 1000).long()]
    sigmas = (timesteps / 1000).view(-1, 1, 1, 1)
    noisy = (1.0 - sigmas) * x + sigmas * noise
    hidden, text_ids = pipe.encode_prompt(PROMPTS)
    grid = torch.cartesian_prod(*(torch.arange(n) for n in (1, height // 2, width // 2, 1)))
    velocity = pipe.transformer(
        hidden_states=noisy.flatten(2).permute(0, 2, 1),
        timestep=timesteps / 1000,
        encoder_hidden_states=hidden,
        txt_ids=text_ids,
        img_ids=grid.expand(2, -1, -1),
        return_dict=False,
    )[0]
    velocity = velocity.permute(0, 2, 1).reshape(x.shape)
    assert_close(ours("flux2-klein"), ((velocity - (noise - x)) ** 2).reshape(2, -1).mean(1).mean())


@torch.no_grad()
def test_the_loss_of_z_image_is_that_of_train_dreambooth_lora_z_image() -> None:
    # examples/dreambooth/train_dreambooth_lora_z_image.py: weighting_scheme none; prompts of two
    # lengths, which the transformer takes as they are.
    pipe = tiny.family_pipeline("z-image")
    pixels, _, noise, u = batch("z-image")
    x = pipe.vae.encode(pixels).latent_dist.mode()
    x = (x - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor
    timesteps = pipe.scheduler.timesteps[(u * 1000).long()]
    sigmas = pipe.scheduler.sigmas[(u * 1000).long()].view(-1, 1, 1, 1)
    noisy = (1.0 - sigmas) * x + sigmas * noise
    states, _ = pipe.encode_prompt(list(PROMPTS), do_classifier_free_guidance=False)
    assert len(states[0]) != len(states[1])
    pictures = list(noisy.unsqueeze(2).unbind(dim=0))
    answer = pipe.transformer(pictures, (1000 - timesteps) / 1000, states, return_dict=False)[0]
    prediction = -torch.stack(answer).squeeze(2)
    assert_close(ours("z-image"), functional.mse_loss(prediction, noise - x))


@torch.no_grad()
def test_prompts_of_other_lengths_are_the_same_alone_and_together() -> None:
    model = base("z-image")
    prompts = ["a", "a photo of dog in the snow", "a red cat on the beach"]
    alone = [model.encode_prompts([prompt]) for prompt in prompts]
    together = model.encode_prompts(prompts)
    joined = Conditioning.cat(alone)
    assert torch.equal(joined.tensors["prompt_mask"], together.tensors["prompt_mask"])
    latents = torch.randn(3, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    u = torch.tensor([0.3, 0.5, 0.8])
    whole = model.predict(latents, joined, latents, u)
    for i, each in enumerate(alone):
        row = slice(i, i + 1)
        part = model.predict(latents[row], each, latents[row], u[row])
        assert torch.allclose(whole[row], part, atol=1e-4)


def test_levels_of_noise_follow_the_density_of_the_family() -> None:
    u = torch.linspace(0, 1, 1001)[:-1]
    sigmas = {n: base(n)._sigma(u).flatten() for n in ("sd35-medium", "flux2-klein")}  # type: ignore[attr-defined]
    assert torch.allclose(sigmas["flux2-klein"], 1 - u, atol=1e-3)
    # Half of the levels lie on either side of the shifted middle, 3 * 0.5 / (1 + 2 * 0.5).
    assert abs(sigmas["sd35-medium"].median() - 0.75) < 2e-3
    assert all((s.diff() <= 0).all() for s in sigmas.values())


TAUGHT = [
    ("sd21", "textual_inversion"),
    ("sd21", "lora"),
    *(
        ("sdxl", m)
        for m in ("textual_inversion", "lora", "text", "dora", "loha", "lokr", "pivotal", "full")
    ),
    *(
        ("sd35-medium", m)
        for m in ("textual_inversion", "lora", "text", "dora", "loha", "lokr", "full")
    ),
    *(
        ("flux2-klein", m)
        for m in ("textual_inversion", "lora", "dora", "loha", "lokr", "pivotal", "full")
    ),
    *(("z-image", m) for m in ("textual_inversion", "lora", "loha", "full")),
]


def recipe(method: str) -> Recipe:
    rates = {"learning_rate": FAST, "text_learning_rate": FAST}
    prior = None
    if method == "textual_inversion":
        made: Any = LearnedEmbedding(2, learning_rate=0.5)
    elif method == "full":
        made = Full(learning_rate=5e-3)
    elif method == "pivotal":
        made = LowRank(
            "lora",
            rank=2,
            alpha=4,
            text_encoder=True,
            learned_embedding=LearnedEmbedding(1, learning_rate=0.5),
            **rates,
        )
    else:
        kind: Any = "lora" if method == "text" else method
        made = LowRank(kind, rank=2, alpha=4, text_encoder=method == "text", **rates)
        prior = Prior("adapter_off") if method == "lora" else None
    return Recipe(made, steps=2, checkpoint_every=1, prior=prior, max_grad_norm=100.0)


def trained(name: str, method: str, folder: Path) -> Adapter:
    """Taught in two slices."""
    wanted = recipe(method)
    if name == "flux2-klein" and method == "pivotal":
        wanted = replace(wanted, method=replace(wanted.method, text_encoder=False))
    run = Run.create(folder / "run", tiny.concept("<sks>"), wanted, name)
    for expected in (SliceEnded, Finished):
        left = iter(range(1))
        stop = lambda left=left: next(left, None) is None  # noqa: E731
        assert isinstance(list(loop.train(base(name), run, stop=stop))[-1], expected)
    return adapters.read(run.adapter_path)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("purpose", ["word", "subject", "full"])
def test_the_catalogs_own_recipe_trains(tmp_path: Path, name: str, purpose: str) -> None:
    own = CATALOG[name].recipes[purpose]  # type: ignore[index]
    prior = own.prior and replace(own.prior, images=2)
    short = own.changed(steps=2, preview_every=0, prior=prior)
    run = Run.create(tmp_path / "run", tiny.concept("<sks>"), short, name)
    assert isinstance(list(loop.train(base(name), run))[-1], Finished)


def drawn(pipe: Any, prompt: str) -> Tensor:
    """Latents by an untouched pipeline, as `draw_latents` has them."""
    pipe.set_progress_bar_config(disable=True)
    more: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 4.0}
    with torch.no_grad():
        latents = pipe(
            prompt=[prompt],
            generator=[torch.Generator().manual_seed(3)],
            width=32,
            height=32,
            output_type="latent",
            **more,
        ).images
    if isinstance(pipe, Flux2KleinPipeline):
        latents = base("flux2-klein").family.to_denoiser(pipe.vae, latents)  # type: ignore[attr-defined]
    return latents


@pytest.mark.slow
@pytest.mark.parametrize(("name", "method"), TAUGHT)
def test_what_is_taught_draws_alike_in_the_stack_and_in_an_untouched_pipeline(
    name: str, method: str, tmp_path: Path
) -> None:
    adapter = trained(name, method, tmp_path)
    prompt = "a photo of <sks>"
    before = untaught(name, prompt)
    pipe = tiny.family_pipeline(name)
    for encoder in ("text_encoder_2",) if name in ("sdxl", "sd35-medium") else ():
        # See `fix_eos_pooling`; the real tokenizers' end is their largest id.
        getattr(pipe, encoder).text_model.eos_token_id = pipe.tokenizer.eos_token_id
    if method == "full":
        with installed(base(name), tiny.concept(), recipe("full")) as whole:
            for group in whole.groups():
                for key, parameter in group.parameters.items():
                    parameter.data = adapter.tensors[key].float()
            after = draw_latents(base(name), [prompt], [3])
        for part in ("unet", "transformer"):
            weights = {k: t.float() for k, t in adapter.tensors.items() if k.startswith(f"{part}.")}
            if weights:
                state = {k.removeprefix(f"{part}."): t for k, t in weights.items()}
                assert not getattr(pipe, part).load_state_dict(state, strict=False).unexpected_keys
    else:
        written = formats.export(adapter, tmp_path / "export.safetensors")
        with applied(base(name), Stack((Slot(adapter),))):
            after = draw_latents(base(name), [prompt], [3])
        load(pipe, adapter, written)
    change = (after - before).norm()
    assert change > 1e-4 * before.norm()
    if not (has_word(method) and CATALOG[name].module == "flow"):  # no loader for words
        assert (after - drawn(pipe, prompt)).norm() < 0.02 * change


@pytest.mark.slow
def test_what_klein_learned_is_drawn_by_its_distilled_weights_as_diffusers_draws_it(
    tmp_path: Path,
) -> None:
    adapter = trained("flux2-klein", "lora", tmp_path)
    distilled = tiny.family_pipeline("flux2-klein", seed=1)
    distilled.register_to_config(is_distilled=True)
    four = FlowBase(tiny.family_spec("flux2-klein-4-steps"), distilled, torch.device("cpu"))
    prompt = "a photo of <sks>"
    before = draw_latents(four, [prompt], [3])
    with applied(four, Stack((Slot(adapter),))):
        after = draw_latents(four, [prompt], [3])
    pipe = tiny.family_pipeline("flux2-klein", seed=1)
    pipe.register_to_config(is_distilled=True)
    load(pipe, adapter, formats.export(adapter, tmp_path / "export.safetensors"))
    change = (after - before).norm()
    assert change > 1e-4 * before.norm()
    assert (after - drawn(pipe, prompt)).norm() < 0.02 * change
    with pytest.raises(RecipeError, match=r"only draws.* Choose FLUX\.2 klein 4B base to teach"):
        start(tmp_path / "refused", four, tiny.concept("<sks>"), recipe("lora"))
    assert not (tmp_path / "refused").exists()


@cache
def untaught(name: str, prompt: str) -> Tensor:
    return draw_latents(base(name), [prompt], [3])


def has_word(method: str) -> bool:
    return method in ("textual_inversion", "pivotal")


def load(pipe: Any, adapter: Adapter, written: list[Path]) -> None:
    """As diffusers' documentation says to."""
    files = {"word" if path.stem.endswith("word") else "lora": path for path in written}
    if adapter.description.method == "textual_inversion":
        files = {"word": written[0]}
    if "lora" in files:
        pipe.load_lora_weights(str(files["lora"]))
    if "word" in files and hasattr(pipe, "load_textual_inversion"):
        rows = load_file(files["word"])
        if "clip_g" in rows:
            placeholder_token = adapter.description.placeholder_token
            pipe.load_textual_inversion(
                {placeholder_token: rows["clip_l"]}, placeholder_token=placeholder_token
            )
            pipe.load_textual_inversion(
                {placeholder_token: rows["clip_g"]},
                placeholder_token=placeholder_token,
                text_encoder=pipe.text_encoder_2,
                tokenizer=pipe.tokenizer_2,
            )
        else:
            pipe.load_textual_inversion(str(files["word"]))


@pytest.mark.parametrize("name", FAMILIES)
def test_text_image_and_inpainting_draw_at_the_size_asked_for(name: str) -> None:
    photo, mask = Image.new("RGB", (48, 40), (200, 30, 30)), Image.new("L", (48, 40))
    mask.paste(255, (0, 0, 24, 40))
    for task in ("text", "image", "inpaint"):
        settings = Settings(negative="red", task=task)  # type: ignore[arg-type]
        pictures = draw_each(base(name), PROMPTS, [1, 2], settings, start=Start(photo, mask))
        assert [picture.size for picture in pictures] == [(32, 32)] * 2
        assert pictures[0].tobytes() != pictures[1].tobytes()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_scheduler_that_a_base_offers_draws_from_text_and_from_pictures(name: str) -> None:
    photo, mask = Image.new("RGB", (32, 32), (200, 30, 30)), Image.new("L", (32, 32), 255)
    for scheduler in schedulers.names(base(name).spec.module):
        for task in ("text", "image", "inpaint"):
            settings = Settings(steps=3, scheduler=scheduler, task=task)  # type: ignore[arg-type]
            start = Start(photo, mask)
            (picture,) = draw_each(base(name), PROMPTS[:1], [1], settings, start=start)
            assert len(picture.getcolors(1024)) > 10, (scheduler, task)  # not black, not NaN


def test_kleins_picture_is_kept_at_low_strength_and_lost_at_full() -> None:
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (32, 32, 3), generator=rng).to(torch.uint8)
    image = Image.fromarray(pixels.numpy())
    pipe = base("flux2-klein").pipeline("image")
    start = base("flux2-klein").encode_images(pixels.permute(2, 0, 1)[None] / 127.5 - 1).mean
    distances = []
    for strength in (0.1, 1.0):
        with torch.no_grad():
            latents = pipe(
                ["a dog"],
                image=image,
                strength=strength,
                num_inference_steps=10,
                guidance_scale=1.0,
                generator=[torch.Generator().manual_seed(1)],
                output_type="latent",
            ).images
        distances.append(float((latents - start).norm() / start.norm()))
    assert distances[0] < 0.8 * distances[1]


def test_a_prompt_is_pooled_at_its_end_also_with_a_learned_word_in_it() -> None:
    # With "the end is token 2" in its configuration, CLIP takes the largest id for the end.
    for name in ("sdxl", "sd35-medium"):
        encoder = base(name).text_encoders[-1]
        assert encoder.model.text_model.eos_token_id == encoder.tokenizer.eos_token_id  # type: ignore[union-attr]


def test_the_table_of_a_language_model_is_larger_than_its_vocabulary() -> None:
    encoder = base("flux2-klein").text_encoders[0]
    table = encoder.model.get_input_embeddings()  # type: ignore[operator]
    assert table.num_embeddings > len(encoder.tokenizer)
    made = recipe("textual_inversion")
    with installed(base("flux2-klein"), tiny.concept("<sks>"), made) as method:
        (group,) = method.groups()
        (rows,) = group.parameters.values()
        base("flux2-klein").encode_prompts(["a <sks>"]).tensors["prompt_embeds"].sum().backward()
        assert rows.grad is not None
        assert rows.grad.abs().sum() > 0
    extended = extended_tokenizer(encoder.tokenizer, "<sks>", 1)
    assert extended.convert_tokens_to_ids("<sks>") < table.num_embeddings


def test_an_adapter_on_kleins_language_model_is_refused_in_words() -> None:
    made = Recipe(LowRank("lora", text_encoder=True), steps=1)
    with (
        pytest.raises(RecipeError, match="takes no adapter"),
        installed(base("flux2-klein"), tiny.concept(), made),
    ):
        pass


@pytest.mark.parametrize("name", ["sd15", "sd35-medium"])
@pytest.mark.parametrize("method", ["textual_inversion", "lora", "full"])
def test_a_base_in_half_precision_is_taught_in_single(name: str, method: str) -> None:
    pipe = tiny.family_pipeline(name)
    pipe.to(dtype=torch.bfloat16)
    kind: Any = type(base(name))
    half: Base = kind(tiny.family_spec(name), pipe, torch.device("cpu"))
    pixels, _, noise, u = batch(name)
    latents = half.encode_images(pixels).mean
    untaught = {k: p.clone() for k, p in half.denoiser.named_parameters()}
    with installed(half, tiny.concept("<sks>"), recipe(method)) as taught_by:
        parameters = [p for g in taught_by.groups() for p in g.parameters.values()]
        assert {p.dtype for p in parameters} == {torch.float32}
        conditioning = half.encode_prompts(["a photo of <sks>"] * 2)
        error = loss(half, latents, conditioning, noise, u)
        assert error.dtype == torch.float32
        error.sum().backward()
        assert sum(p.grad.abs().sum() for p in parameters if p.grad is not None) > 0
        assert draw_each(half, ["a photo of <sks>"], [1])[0].size == (32, 32)
    left = dict(half.denoiser.named_parameters())
    assert left.keys() == untaught.keys()
    assert all(torch.equal(p, untaught[k]) and p.dtype == torch.bfloat16 for k, p in left.items())


@pytest.mark.parametrize("name", FAMILIES)
def test_gradient_checkpointing_computes_again_and_changes_nothing(name: str) -> None:
    _, _, noise, u = batch(name)
    latents = torch.randn(noise.shape, generator=torch.Generator().manual_seed(5))
    plain = recipe("lora")
    found: list[list[Tensor]] = []
    forwards: list[int] = []
    with installed(base(name), tiny.concept("<sks>"), plain) as method:
        parameters = [p for g in method.groups() for p in g.parameters.values()]
        with torch.no_grad():
            for parameter in parameters:  # else B is zero, and A learns nothing
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(6))
        inner = next(
            m for n, m in base(name).denoiser.named_modules() if n.endswith("lora_A.default")
        )
        calls: list[int] = []
        inner.register_forward_hook(lambda *_: calls.append(1))
        with torch.no_grad():
            conditioning = base(name).encode_prompts(PROMPTS)
        for on in (False, True):
            calls.clear()
            with loop._recomputing(base(name), replace(plain, gradient_checkpointing=on)):
                error = loss(base(name), latents, conditioning, noise, u)
                error.sum().backward()
            forwards.append(len(calls))
            found.append([error.detach(), *(p.grad for p in parameters if p.grad is not None)])
            for parameter in parameters:
                parameter.grad = None
    assert forwards == [1, 2]
    assert len(found[0]) > 1
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("combine", ["switch", "composite"])
def test_a_flow_takes_its_adapters_in_turn(combine: str, tmp_path: Path) -> None:
    adapter = trained("sd35-medium", "lora", tmp_path)
    alone = draw_latents(base("sd35-medium"), ["a dog"], [1])
    stack = Stack((Slot(adapter), Slot(adapter, -1.0)), combine)
    with applied(base("sd35-medium"), stack):
        assert not torch.equal(draw_latents(base("sd35-medium"), ["a dog"], [1]), alone)


def test_every_entry_of_the_catalog_says_what_the_app_needs() -> None:
    for name, spec in CATALOG.items():
        assert spec.name == name
        assert spec.recipes.keys() - {"lokr"} == {"word", "subject", "full"}
        for made in spec.recipes.values():
            made.check()
        assert spec.title
        assert spec.licence
        assert name == "pocket" or spec.encoder == "clip"
        assert Path(spec.source).is_dir() or spec.source.count("/") == 1


def test_a_folder_is_recognised_and_loaded(tmp_path: Path) -> None:
    for name in ("sd21", "sdxl"):
        folder = tmp_path / f"my-{name}"
        tiny.family_pipeline(name).save_pretrained(folder)
        found = loading.recognised(str(folder))
        assert (found.family, found.title) == (CATALOG["sd15" if name == "sd21" else name].family,
                                               f"my-{name}")  # fmt: skip
        device = torch.device("cpu")
        module: Any = __import__(f"personalization.bases.{found.module}", fromlist=["load"])
        again = module.load(replace(found, architecture="pocket", size=32), device)
        assert again.fingerprint == base(name).fingerprint


def test_width_tells_stable_diffusion_2_from_1(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    index = {"_class_name": "StableDiffusionPipeline"}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    for width, sample, family, size in ((768, 64, "sd1", 512), (1024, 96, "sd2", 768)):
        config = {"cross_attention_dim": width, "sample_size": sample}
        (tmp_path / "unet" / "config.json").write_text(json.dumps(config))
        found = loading.recognised(str(tmp_path))
        assert (found.family, found.size) == (family, size)


INNER = "model.diffusion_model."


@pytest.mark.parametrize(
    ("key", "width", "family"),
    [
        ("input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", 768, "sd1"),
        ("input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", 1024, "sd2"),
        ("input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight", 2048, "sdxl"),
        ("joint_blocks.0.context_block.attn.qkv.weight", 1536, "sd3"),
    ],
)
def test_a_single_files_family_is_told_from_its_header(
    tmp_path: Path, key: str, width: int, family: str
) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({INNER + key: torch.zeros(2, width)}, path)
    found = loading.recognised(str(path))
    assert (found.family, found.title, found.source) == (family, "mine", str(path))
    assert found.config


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("strange", "is of no family that is known"),
        ("adapter", "is an adapter, not a base"),
        ("pickle", "could run code"),
        ("half", "cut short"),
        ("none", "There is no file"),
    ],
)
def test_a_single_file_that_is_no_base_is_refused_in_words(
    tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "mine.safetensors"
    if content == "pickle":
        path.write_bytes(b"PK\x03\x04archive/data.pkl" + bytes(64))
    elif content != "none":
        name = "a.lora_A.weight" if content == "adapter" else "what.weight"
        save_file({name: torch.zeros(64, 64)}, path)
        if content == "half":
            path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BaseError, match=said):
        loading.recognised(str(path))


def test_a_single_file_draws_what_its_folder_draws(tmp_path: Path) -> None:
    pipe = tiny.family_pipeline("sd15")
    pipe.save_pretrained(tmp_path / "like")
    path = tmp_path / "mine.safetensors"
    save_single_file(pipe, path)
    whole = replace(tiny.family_spec("sd15"), source=str(tmp_path / "like"))
    single = replace(whole, name="mine", source=str(path), config=str(tmp_path / "like"))
    first, second = (
        draw_each(bases.load(spec, "cpu"), PROMPTS[:1], [1])[0] for spec in (whole, single)
    )
    assert first.tobytes() == second.tobytes()
    assert bases.load(single, "cpu").fingerprint == bases.load(whole, "cpu").fingerprint


def test_a_single_file_with_half_of_a_base_is_refused_in_words(tmp_path: Path) -> None:
    tiny.family_pipeline("sd15").save_pretrained(tmp_path / "like")
    path = tmp_path / "mine.safetensors"
    key = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    save_file({INNER + key: torch.zeros(2, 768)}, path)
    found = replace(
        loading.recognised(str(path)), config=str(tmp_path / "like"), architecture="pocket"
    )
    with pytest.raises(BaseError, match=r"mine\.safetensors cannot be loaded .* stays\."):
        bases.load(found, "cpu")


def test_a_pipeline_of_an_unknown_family_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "KandinskyPipeline"}))
    with pytest.raises(BaseError, match="is a KandinskyPipeline; what is known here: Stable"):
        loading.recognised(str(tmp_path))


def test_half_a_download_is_refused_in_words(tmp_path: Path) -> None:
    tiny.pipeline().save_pretrained(tmp_path)
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    spec = replace(tiny.spec(), source=str(tmp_path))
    for left in (whole[: len(whole) // 2], None):
        weights.unlink()
        if left:
            weights.write_bytes(left)
        else:
            (weights.parent / "other.txt").touch()
        with pytest.raises(BaseError, match=str(tmp_path)) as caught:
            bases.load(replace(spec, name=f"half {bool(left)}"), "cpu")
        assert "The base in use stays." in str(caught.value)
        if left is None:
            break
        weights.write_bytes(whole)


class _Hub(BaseHTTPRequestHandler):
    """Says of every repository what its name says."""

    def do_HEAD(self) -> None:
        gated = "gated" in self.path
        self.send_response(403 if gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("somebody/gated", "is gated: .*huggingface.co/somebody/gated"),
        ("somebody/missing", "There is no repository somebody/missing"),
        ("somebody/offline", "the Hub does not answer"),
    ],
)
def test_what_the_hub_refuses_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, said: str
) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Hub)
    address = f"http://127.0.0.1:{server.server_port}"
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's five attempts
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    if "offline" in source:
        server.server_close()
        running: Any = nullcontext()
    else:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running = server
    with running:
        spec = replace(
            CATALOG["sd15"], name=source, source=source, revision=None, architecture="pocket"
        )
        with pytest.raises(BaseError, match=said):
            bases.load(spec, "cpu")
        with pytest.raises(BaseError, match=said):
            loading.recognised(source)
        if "offline" not in source:
            server.shutdown()


def test_a_mistake_in_the_code_is_no_repositorys_fault() -> None:
    with pytest.raises(AttributeError):
        loading.read(None, CATALOG["pocket"], torch.device("cpu"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (hub.OfflineModeIsEnabled("off"), "Hub does not answer"),
        (hub.LocalEntryNotFoundError("no"), "Hub does not answer"),
        (SafetensorError("header"), "damaged or half downloaded"),
        (KeyError("down_blocks"), "is it all there"),
        (OSError(errno.ENOSPC, "No space left on device"), "The disk has no room for a/b"),
    ],
)
def test_every_failure_has_a_sentence(error: Exception, said: str) -> None:
    outer = OSError("something went wrong")
    outer.__cause__ = error
    assert said in loading.failure_reason(
        "a/b", outer if not isinstance(error, KeyError) else error
    )


def test_the_safety_checker_is_kept_on_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert not loading.keeps_safety_checker(CATALOG["sd15"])
    monkeypatch.setenv("SPACE_ID", "somebody/space")
    assert loading.keeps_safety_checker(CATALOG["sd15"])
    assert not loading.keeps_safety_checker(CATALOG["sdxl"])


def test_a_checker_that_was_loaded_is_in_every_pipeline() -> None:
    from transformers import CLIPImageProcessor

    plain = tiny.pipeline()
    parts = {k: v for k, v in plain.components.items() if k != "image_encoder"}
    parts |= {
        "safety_checker": torch.nn.Identity(),
        "feature_extractor": CLIPImageProcessor(),
    }
    kind: Any = type(base("sd15"))
    checked = kind(tiny.spec(), StableDiffusionPipeline(**parts), torch.device("cpu"))
    for task in ("text", "image", "inpaint"):
        assert checked.pipeline(task).safety_checker is parts["safety_checker"]
        assert base("sd15").pipeline(task).safety_checker is None  # type: ignore[arg-type]


def test_what_comes_from_the_hub_comes_at_one_revision() -> None:
    named = [spec.decoder for spec in CATALOG.values() if spec.decoder]
    named += [spec.fast.lora for spec in CATALOG.values() if spec.fast]
    named += [who.weights for known in STRUCTURES.values() for who in known]
    named += [
        part
        for known in REFERENCES.values()
        for who in known
        for part in (who.weights, who.encoder)
    ]
    named += [adapter.checkpoint for known in READY.values() for adapter in known]
    at = {spec.source: spec.revision for spec in CATALOG.values()}
    at |= {checkpoint.source: checkpoint.revision for checkpoint in [*named, DEPTH_MODEL]}
    loose = [
        source
        for source, revision in at.items()
        if not Path(source).is_absolute() and not re.fullmatch("[0-9a-f]{40}", revision or "")
    ]
    # Of this one only the first digits could be read; the README says so.
    assert loose == ["artificialguybr/pixelartredmond-1-5v-pixel-art-loras-for-sd-1-5"]
