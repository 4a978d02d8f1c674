"""What a prompt says at its end, drawn by the pocket: cut off at one window, or read in several.

    python -m tests.benchmarks.long_prompts --json FILE

A report's thirteen unrelated prompts stand behind a clause of words that the pocket has to spell.
Told by its own judge: how alike a picture is to the prompt without the clause, and how often that
is the one of the thirteen that it is most alike to.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from personalization import bases
from personalization.adapters.adapter import Description
from personalization.bases import encoders
from personalization.bases.base import Base
from personalization.bases.catalog import CATALOG
from personalization.bases.context import unread
from personalization.evaluation.prompts import unrelated
from personalization.sampling.generate import draw_each

CLAUSE = "an especially wonderful atmospheric composition with exquisite craftsmanship, "
SEEDS = 3


def cut(base: Base, prompt: str) -> str:
    """The prompt as far as one window goes."""
    rest = unread(base.contexts, prompt)
    return prompt.removesuffix(rest).strip()


def measure(seeds: int) -> dict[str, Any]:
    base = bases.load(CATALOG["pocket"])
    judge = encoders.encoder_pair(base.spec, base.device).prompt
    prompts = unrelated(Description("lora", "pocket"), 13)
    ways = {
        "without the clause": prompts,
        "cut off": [cut(base, CLAUSE + prompt) for prompt in prompts],
        "in windows": [CLAUSE + prompt for prompt in prompts],
    }
    texts = torch.nn.functional.normalize(judge.texts(prompts), dim=-1)
    right = torch.arange(len(prompts)).repeat(seeds)
    figures: dict[str, Any] = {"prompts": len(prompts), "seeds": seeds}
    for way, asked in ways.items():
        pictures = draw_each(base, asked * seeds, list(range(len(right))))
        seen = torch.nn.functional.normalize(judge.images(pictures), dim=-1) @ texts.T
        figures[way] = {
            "similarity": round(float(seen[torch.arange(len(right)), right].mean()), 3),
            "most alike": round(float((seen.argmax(1) == right).float().mean()), 3),
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    text = json.dumps(measure(arguments.seeds), indent=2)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
