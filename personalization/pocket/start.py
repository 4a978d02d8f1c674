"""A work folder from published weights, so that the build's stages go on where those ended.

The rows of the held-out words come back from held_out_words.safetensors; the vocabulary's other
pieces of those words start fresh, no caption has them.
"""

from __future__ import annotations

from pathlib import Path

from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from .anatomy import make_autoencoder, make_text_encoder, make_unet
from .checkpoints import save_state
from .tokens import held_out_word_numbers


def with_held_out_words(published: Path, training: CLIPTokenizer) -> CLIPTextModel:
    """The published text encoder over the training vocabulary, in fp32."""
    model = make_text_encoder(len(training), training.bos_token_id, training.eos_token_id)
    given = CLIPTextModel.from_pretrained(published, subfolder="text_encoder").float().state_dict()
    words = load_file(published / "held_out_words.safetensors")
    state = model.state_dict()
    for name, tensor in given.items():
        if name.endswith("token_embedding.weight"):
            state[name][: len(tensor)] = tensor
            for word, number in held_out_word_numbers(training).items():
                state[name][number] = words[word][0]
        else:
            state[name] = tensor
    model.load_state_dict(state)
    return model


def lay_out(
    work: Path, published: Path, training: CLIPTokenizer, autoencoder_steps: int, text_steps: int
) -> None:
    """Checkpoints of autoencoder and text encoder as done, of the UNet as about to begin.

    What the work folder has already stays.
    """
    if not (work / "autoencoder.pt").exists():
        autoencoder = make_autoencoder()
        given = AutoencoderKL.from_pretrained(published, subfolder="vae")
        autoencoder.load_state_dict(given.float().state_dict())
        save_state(work / "autoencoder.pt", autoencoder_steps, {"model": autoencoder})
    text = with_held_out_words(published, training)
    if not (work / "text.pt").exists():
        save_state(work / "text.pt", text_steps, {"model": text})
    if not (work / "unet.pt").exists():
        unet = make_unet()
        given = UNet2DConditionModel.from_pretrained(published, subfolder="unet")
        unet.load_state_dict(given.float().state_dict())
        both = {"unet": unet, "average": unet, "text": text, "text_average": text}
        save_state(work / "unet.pt", 0, both)
