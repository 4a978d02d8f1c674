"""What a job does on Hugging Face's machine, called with the name of its repository.

The working folder is a copy of the private dataset repository: this package, and the run. That
repository is deleted before the first step, photos and all; after the last one there is one of the
same name again, with what was learned alone. Progress is printed, a line of JSON each.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from huggingface_hub import HfApi

from personalization.events import Finished, Stage, StepDone
from personalization.sharing.jobs import JOB_TOKEN, MARK, RUN, learned_files
from personalization.training.run import Run

EVERY = 2.0  # seconds between two lines


def main(repository: str) -> None:
    """Learn to the end; the token is a secret of the job’s."""
    from personalization import bases
    from personalization.training.base_selection import named
    from personalization.training.loop import train

    api = HfApi(token=os.environ[JOB_TOKEN])
    api.delete_repo(repository, repo_type="dataset")
    run = Run.open(Path(RUN))
    tell(doing="loading the base")
    shown = 0.0
    for event in train(bases.load(named(run.base)), run):
        if isinstance(event, Finished):
            break
        if time.monotonic() - shown > EVERY and isinstance(event, StepDone | Stage):
            shown = time.monotonic()
            if isinstance(event, StepDone):
                tell(step=event.step, steps=event.steps)
            else:
                tell(doing=event.name)
    api.create_repo(repository, repo_type="dataset", private=True)
    api.create_commit(
        repository,
        learned_files(run.folder),
        repo_type="dataset",
        commit_message="What was learned",
    )
    tell(doing="done", step=run.state.step, steps=run.recipe.steps)


def tell(**said: str | int) -> None:
    """A line that `jobs.look` reads."""
    print(MARK + json.dumps(said), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
