"""What can go wrong, as sentences that a visitor can act on.

    PersonalizationError
    ├── PhotoError       a photo, or the lack of photos
    ├── ConceptError     the token, or the class noun
    ├── RecipeError      a setting out of range, or a method that the base does not support
    ├── BaseError        a base that cannot be loaded
    ├── AdapterError     a file that is no adapter, or one for another base
    ├── StackError       a weight, or words that clash
    ├── RunError         a run that cannot start, continue or finish
    ├── ReportError      a report that cannot be read
    ├── WorkspaceError   no room, or not this visitor's
    └── HubError         the Hub said no, or did not answer

Each message names the thing, the limit and the remedy. `field` names what the visitor entered
wrongly (``"photos"``, ``"placeholder_token"``, ``"class_noun"``, ...), so that the page can say it
beside the field.
"""

__all__ = [
    "AdapterError",
    "BaseError",
    "ConceptError",
    "HubError",
    "PersonalizationError",
    "PhotoError",
    "RecipeError",
    "ReportError",
    "RunError",
    "StackError",
    "WorkspaceError",
]


class PersonalizationError(Exception):
    """The root: whatever this package raises on purpose."""

    def __init__(self, message: str, *, field: str | None = None):
        super().__init__(message)
        self.field = field


class PhotoError(PersonalizationError):
    """A photo that cannot be used, by its file name."""


class ConceptError(PersonalizationError):
    """A token or a class noun that cannot be taught."""


class RecipeError(PersonalizationError):
    """A setting out of range, or a method that the base does not support."""


class BaseError(PersonalizationError):
    """A base that cannot be loaded."""


class AdapterError(PersonalizationError):
    """A file that is no adapter, is damaged, or belongs to another base."""


class StackError(PersonalizationError):
    """A stack that cannot be applied: a weight out of range, two words alike."""


class RunError(PersonalizationError):
    """A run that cannot start, continue or finish."""


class ReportError(PersonalizationError):
    """A report that is damaged, or of another version."""


class WorkspaceError(PersonalizationError):
    """A workspace that is full, expired, or somebody else's."""


class HubError(PersonalizationError):
    """The Hub refused, or could not be reached."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, had no memory left; PyTorch says so in three ways."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's, of GPUs
        or "DefaultCPUAllocator" in str(error)
    )
