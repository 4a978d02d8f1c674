"""How events are handled: in the queue or past it, on the GPU, and what scripts say beside them."""

from __future__ import annotations

from typing import Any

UNQUEUED: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
LATEST: dict[str, Any] = {**UNQUEUED, "trigger_mode": "always_last"}
# Gradio notices a changed State only where the event went through the queue.
QUEUED: dict[str, Any] = {**UNQUEUED, "queue": True, "concurrency_limit": None}
# On ZeroGPU a request waits in Gradio's queue, whose place is shown where the work will be.
IN_SIGHT: dict[str, Any] = {"queue": True, "api_visibility": "private", "show_progress": "minimal"}
ON_GPU: dict[str, Any] = {"concurrency_id": "gpu", "concurrency_limit": 1}

REFRESH = 1.0  # seconds between two things that a run tells of its steps: a browser draws them too

# What a page holds before it has been restored is not what anyone entered.
IF_ARRIVED = (
    "(before, ...values) => [document.body.classList.contains('arrived') ? values : before]"
)

# A click on one of the buttons inside a piece of HTML, told with the button's key.
CLICK_WITH_KEY = """element.addEventListener('click', (event) => {
    const button = event.target.closest('[data-key]');
    if (button) trigger('click', { key: button.dataset.key });
});"""
