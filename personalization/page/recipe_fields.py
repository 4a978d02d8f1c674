"""The fields of a recipe: what each is called, and how a recipe fills them and is made of them.

`settings` and `recipe_of` agree: the fields hold the whole recipe.
"""

from __future__ import annotations

from typing import Any

from personalization.bases.catalog import BaseSpec
from personalization.recipe import Full, LearnedEmbedding, LowRank, Method, Prior, Recipe
from personalization.training.base_selection import POCKET

WHERE = [("here", "here"), ("in other programs", "elsewhere"), ("with other adapters", "stack")]
EXACT = [("roughly", "rough"), ("close", "close"), ("exactly", "exact")]
WAYS = [
    *(("LoRA", "lora"), ("LoHa", "loha"), ("LoKr", "lokr"), ("DoRA", "dora")),
    ("full fine-tune", "full"),
]
PRIORS = [("class images", "images"), ("adapter off", "adapter_off"), ("none", "none")]

# The settings that are numbers: label, help, digits after the point (None: any).
NUMBERS: dict[str, tuple[str, str, int | None]] = {
    "steps": ("Steps", "More: closer, then a copy.", 0),
    "rate": ("Learning rate", "Too high breaks it.", None),
    "batch": ("Batch", "Photos at a time.", 0),
    "vectors": ("Vectors", "More hold more detail.", 0),
    "word_rate": ("Word learning rate", "Of the word’s vectors.", None),
    "rank": ("Rank", "Capacity, and file size.", 0),
    "alpha": ("Alpha", "Scale: alpha / rank.", None),
    "text_rate": ("Text learning rate", "Of the text encoder.", None),
    "prior_weight": ("Prior weight", "How much the class counts.", None),
    "images": ("Class images", "Drawn once, then kept.", 0),
    "warmup": ("Warm-up", "While the rate rises.", 0),
    "weight_decay": ("Weight decay", "Pulls weights to zero.", None),
    "clip": ("Gradient norm", "Larger ones are clipped.", None),
    "background": ("Background", "Its share, where masked.", None),
    "every": ("Previews", "From one to the next.", 0),
    "save_every": ("Checkpoints", "From one to the next.", 0),
    "seed": ("Seed", "The same seed, the same run.", 0),
    "resolution": ("Photo size", "Pixels a side; 0: the base’s own.", 0),
}
TEXTS = {
    "initial": ("Word starts from", "One word or several; empty: the class."),
    "targets": ("Target modules", "Ends of their names, by commas; empty: the base’s own."),
}
BOXES = {
    "learned": ("Learn the word as well", "Pivotal tuning: the word gets a vector of its own."),
    "text": ("Text encoder too", "Learns the word faster, and leaks more."),
    "decay": ("Falling rate", "A cosine down to a tenth of it."),
    "early": ("Stop when settled", "Ends when the loss on one fixed batch moves no more."),
    "flip": ("Mirrored photos too", "Not for faces, words, or what has a left and a right."),
    "annotate": (
        "The base looks first",
        "Finds the subject in photos without a mask, so that little is learned of what is around "
        "it. Of a style the pocket says what each picture shows.",
    ),
}
RATES = {"rate", "text_rate", "word_rate"}
_SHARED = {
    *("steps", "rate", "batch", "warmup", "decay", "weight_decay", "clip", "early"),
    *("background", "every", "save_every", "seed", "flip", "resolution", "framing", "annotate"),
}


def settings(recipe: Recipe, spec: BaseSpec = POCKET) -> dict[str, Any]:
    """What the fields say of a recipe; those that its method lacks, as they begin for `spec`."""
    method = recipe.method
    subject = spec.recipes["subject"].method
    low = method if isinstance(method, LowRank) else subject
    assert isinstance(low, LowRank)
    trained = method if isinstance(method, LowRank | Full) else low
    word = recipe.learned_embedding or LearnedEmbedding(
        learning_rate=spec.recipes["word"].method.learning_rate
    )
    prior = recipe.prior or Prior()
    return {
        "method": recipe.method_name,
        "learned": isinstance(method, LowRank) and method.learned_embedding is not None,
        "steps": recipe.steps,
        "rate": method.learning_rate,
        "batch": recipe.batch_size,
        "vectors": word.vectors,
        "word_rate": word.learning_rate,
        "initial": word.initializer_token,
        "rank": low.rank,
        "alpha": low.alpha,
        "targets": ", ".join(low.targets),
        "text": trained.text_encoder,
        "text_rate": trained.text_learning_rate,
        "prior": recipe.prior.kind if recipe.prior else "none",
        "prior_weight": prior.weight,
        "images": prior.images,
        "warmup": recipe.warmup,
        "decay": recipe.decay,
        "weight_decay": recipe.weight_decay,
        "clip": recipe.max_grad_norm,
        "early": recipe.stop_early,
        "background": recipe.background,
        "every": recipe.preview_every,
        "save_every": recipe.checkpoint_every,
        "seed": recipe.seed,
        "flip": recipe.flip,
        "resolution": recipe.resolution,
        "framing": recipe.framing,
        "annotate": recipe.annotate,
    }


def recipe_of(values: dict[str, Any]) -> Recipe:
    """The recipe that the fields say. Raises `RecipeError`."""
    method: Method
    if values["method"] == "textual_inversion":
        # What it starts from is the concept's, in a field of its own.
        method = LearnedEmbedding(values["vectors"], "", values["rate"])
    elif values["method"] == "full":
        method = Full(values["text"], values["rate"], values["text_rate"])
    else:
        word = LearnedEmbedding(values["vectors"], values["initial"].strip(), values["word_rate"])
        method = LowRank(
            values["method"],
            values["rank"],
            values["alpha"],
            text_encoder=values["text"],
            targets=tuple(values["targets"].replace(",", " ").split()),
            learned_embedding=word if values["learned"] else None,
            learning_rate=values["rate"],
            text_learning_rate=values["text_rate"],
        )
    none = values["method"] == "textual_inversion" or values["prior"] == "none"
    return Recipe(
        method,
        steps=values["steps"],
        batch_size=values["batch"],
        prior=None if none else Prior(values["prior"], values["prior_weight"], values["images"]),
        warmup=values["warmup"],
        decay=values["decay"],
        max_grad_norm=values["clip"],
        weight_decay=values["weight_decay"],
        flip=values["flip"],
        seed=values["seed"],
        preview_every=values["every"],
        checkpoint_every=values["save_every"],
        stop_early=values["early"],
        background=values["background"],
        resolution=values["resolution"],
        framing=values["framing"],
        annotate=values["annotate"],
    ).check()


def shown(method: str, learned: bool, text: bool, prior: str) -> set[str]:
    """The fields that mean something for these choices."""
    if method == "textual_inversion":
        return _SHARED | {"vectors"}
    names = _SHARED | {"method", "text", "prior"}
    if method != "full":
        names |= {"rank", "alpha", "targets", "learned"}
        if learned:
            names |= {"vectors", "word_rate", "initial"}
    if text:
        names |= {"text_rate"}
    if prior != "none":
        names |= {"prior_weight"} | ({"images"} if prior == "images" else set())
    return names


def merged(new: dict[str, Any], old: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The fields after a change of preset from `old` to `new`: what was set by hand stays."""

    def touched(name: str) -> bool:
        changed = now[name] not in (None, old[name])
        return changed and not (name in RATES and old[name] != new[name])

    return {n: now[n] if n != "method" and touched(n) else new[n] for n in now}
