"""Bases of random weights, small enough to train in a test.

The same classes as the real things, built from configuration; they draw noise, and what is tested
on them are the claims that hold for any weights. `pipeline` and `base` are a Stable Diffusion 1.x;
`family_pipeline` and `family_base` are of any family in the catalog.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from PIL import Image
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2TokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from personalization.bases import CATALOG, BaseSpec
from personalization.bases.base import Base
from personalization.bases.catalog import Sampling
from personalization.bases.flow import FlowBase
from personalization.bases.unet import UNetBase
from personalization.data.concept import Concept
from personalization.data.photos import Photo

WORDS = ["a", "photo", "of", "dog", "cat", "red", "the", "in", "on", "beach", "snow", "style"]
BYTES = [chr(i) for i in [*range(33, 127), *range(161, 173), *range(174, 256)]] + [
    chr(256 + i) for i in range(68)
]


def tokenizer() -> CLIPTokenizer:
    """Every byte, and a few words as single tokens."""
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for piece in [*BYTES, *(byte + "</w>" for byte in BYTES)]:
        vocabulary.setdefault(piece, len(vocabulary))
    merges = []
    for word in WORDS:
        left = word[0]
        for i, letter in enumerate(word[1:], 2):
            right = letter + ("</w>" if i == len(word) else "")
            pair, joined = f"{left} {right}", left + right
            if pair not in merges:
                merges.append(pair)
            vocabulary.setdefault(joined, len(vocabulary))
            left = joined
    return CLIPTokenizer(
        vocab=vocabulary, merges=[tuple(m.split()) for m in merges], model_max_length=24
    )


def pipeline(seed: int = 0) -> StableDiffusionPipeline:
    """An untouched diffusers pipeline of random weights: 32 px, latents of 16 x 16 x 4."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        words = tokenizer()
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=24,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )
        unet = UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=8,
            norm_num_groups=8,
        )
        vae = AutoencoderKL(
            block_out_channels=(16, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=8,
            latent_channels=4,
        )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=words,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def spec() -> BaseSpec:
    return replace(CATALOG["pocket"], name="tiny", family="tiny", size=32, source="")


def base(seed: int = 0) -> UNetBase:
    return UNetBase(spec(), pipeline(seed), torch.device("cpu"))


def family_spec(name: str) -> BaseSpec:
    """The catalog's entry at 32 px, with two steps of the sampler, and nowhere to load it from."""
    return replace(
        CATALOG[name],
        name=f"tiny-{name}",
        size=32,
        source="",
        sampling=Sampling(2, 4.0),
        architecture="pocket",  # small: the catalog's own would not fit a small machine
    )


def family_base(name: str, seed: int = 0) -> Base:
    kind = FlowBase if CATALOG[name].module == "flow" else UNetBase
    return kind(family_spec(name), family_pipeline(name, seed), torch.device("cpu"))


def family_pipeline(name: str, seed: int = 0) -> Any:
    """An untouched diffusers pipeline of random weights, of the class of that entry."""
    make = {"sd15": pipeline, "sd21": _sd21, "sdxl": _sdxl, "sd35-medium": _sd3}
    make |= {"z-image": _z_image}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "sd15":
            return pipeline(seed)
        return make.get(name, _klein)()


def _clip(kind: Any, width: int = 32, **more: Any) -> Any:
    return kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer()),
            hidden_size=width,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=24,
            projection_dim=width,
            bos_token_id=0,
            pad_token_id=1,
            **{"eos_token_id": 1, **more},
        )
    )


def _vae(channels: int, **more: Any) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        latent_channels=channels,
        **more,
    )


def _unet(cross: int, **more: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross,
        attention_head_dim=(2, 4),
        norm_num_groups=8,
        use_linear_projection=True,
        **more,
    )


_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _sd21() -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=_vae(4),
        text_encoder=_clip(CLIPTextModel, hidden_act="gelu"),
        tokenizer=tokenizer(),
        unet=_unet(32),
        scheduler=DDIMScheduler(
            **_BETAS, clip_sample=False, steps_offset=1, prediction_type="v_prediction"
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl() -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline(
        vae=_vae(4, force_upcast=True),
        text_encoder=_clip(CLIPTextModel),
        # As the real one's configuration has it: "the end is token 2", which it is not.
        text_encoder_2=_clip(CLIPTextModelWithProjection, 48, hidden_act="gelu", eos_token_id=2),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=_unet(
            80,
            transformer_layers_per_block=(1, 2),
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=48 + 6 * 8,
        ),
        scheduler=EulerDiscreteScheduler(**_BETAS, steps_offset=1, timestep_spacing="leading"),
        add_watermarker=False,
    )


def t5_words() -> T5TokenizerFast:
    """Every letter, and a few words."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0)]
    pieces += [(chr(i), -3.0) for i in range(33, 127)] + [(f"▁{word}", -1.0) for word in WORDS]
    return T5TokenizerFast(vocab=pieces, extra_ids=0)


def _sd3() -> StableDiffusion3Pipeline:
    t5 = T5Config(
        vocab_size=128, d_model=64, d_kv=16, d_ff=32, num_layers=1, num_heads=2,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_projection_dim=16,
            joint_attention_dim=64,
            pooled_projection_dim=56,
            pos_embed_max_size=16,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(
            16,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.06,
            scaling_factor=1.5,
        ),
        text_encoder=_clip(CLIPTextModelWithProjection, 24),
        text_encoder_2=_clip(CLIPTextModelWithProjection, 32, eos_token_id=2),
        text_encoder_3=T5EncoderModel(t5).eval(),  # it has dropout
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        tokenizer_3=t5_words(),
    )


_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def qwen_words() -> Qwen2TokenizerFast:
    """Every byte, and the template of a question."""
    return Qwen2TokenizerFast(
        vocab={piece: i for i, piece in enumerate(dict.fromkeys(BYTES))},
        merges=[],
        unk_token=None,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        chat_template=_CHAT,
    )


def _qwen(words: Qwen2TokenizerFast, layers: int) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=len(words) + 20,  # as the real one, a table larger than its vocabulary
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=16,
        tie_word_embeddings=True,
    )


def _z_image() -> ZImagePipeline:
    words = qwen_words()
    return ZImagePipeline(
        transformer=ZImageTransformer2DModel(
            in_channels=16,
            dim=48,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[8, 8, 8],
            axes_lens=[256, 64, 64],
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(
            16,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.1,
            scaling_factor=0.4,
        ),
        text_encoder=Qwen3Model(_qwen(words, 3)),
        tokenizer=words,
    )


def _klein() -> Flux2KleinPipeline:
    words = qwen_words()
    qwen = _qwen(words, 28)  # the pipeline reads the 9th, 18th and 27th
    vae = AutoencoderKLFlux2(
        block_out_channels=(16, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
    )
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2)
    return Flux2KleinPipeline(
        transformer=Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae,
        text_encoder=Qwen3ForCausalLM(qwen),
        tokenizer=words,
    )


def photos(count: int = 3) -> tuple[Photo, ...]:
    noise = torch.Generator().manual_seed(7)
    pixels = [torch.randint(0, 256, (40, 48, 3), generator=noise) for _ in range(count)]
    return tuple(
        Photo(f"photo-{i}.png", Image.fromarray(p.to(torch.uint8).numpy()).resize((96, 80)))
        for i, p in enumerate(pixels)
    )


def concept(placeholder_token: str = "sks", class_noun: str = "dog", count: int = 3) -> Concept:
    return Concept("creature", placeholder_token, class_noun, photos(count))


__all__ = [
    "base",
    "concept",
    "family_base",
    "family_pipeline",
    "family_spec",
    "photos",
    "pipeline",
    "qwen_words",
    "spec",
    "t5_words",
    "tokenizer",
]
