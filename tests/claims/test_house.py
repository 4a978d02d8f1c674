"""What may know what: the rules that keep the parts apart, read off the code itself."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "personalization"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def imported(name: str, *, at_top: bool = False) -> set[str]:
    """Modules that `name` imports, anywhere or only when it is itself imported."""
    tree = TREES[name]
    nodes = tree.body if at_top else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {
                f"{node.module}.{alias.name}"
                for alias in node.names
                if f"{node.module}.{alias.name}" in MODULES
            }
    return found


def users_of(*packages: str) -> set[str]:
    return {
        name
        for name in MODULES
        if any(m == p or m.startswith(f"{p}.") for m in imported(name) for p in packages)
    }


def inside(*prefixes: str) -> set[str]:
    return {n for n in MODULES if any(n == p or n.startswith(f"{p}.") for p in prefixes)}


def test_only_the_page_imports_gradio_and_spaces_and_nothing_imports_the_page():
    page = inside("personalization.page")
    assert users_of("gradio", "spaces", "gradio_client") <= page
    assert users_of("personalization.page") <= page


def test_what_the_page_says_needs_no_web_framework():
    assert not users_of("gradio", "spaces") & inside("personalization.page.html")


def test_nothing_is_unpickled():
    assert users_of("pickle", "dill", "cloudpickle", "joblib", "shelve") == set()
    visitors = set(MODULES) - inside("personalization.pocket")
    loads = {
        name
        for name in visitors
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.load", "eval", "exec")
    }
    assert loads == set()


def test_bases_know_no_methods():
    assert users_of("personalization.methods").isdisjoint(inside("personalization.bases"))


def test_methods_know_no_family():
    families = {f"personalization.bases.{name}" for name in ("unet", "flow")}
    assert users_of(*families).isdisjoint(inside("personalization.methods"))


def test_the_loop_names_no_family_and_no_method():
    loop = "personalization.training.loop"
    known = {"personalization.methods", "personalization.methods.Method"}
    assert {m for m in imported(loop) if m.startswith("personalization.methods")} <= known
    words = {
        node.value
        for node in ast.walk(TREES[loop])
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    named = {
        "unet",
        "transformer",
        "lora",
        "loha",
        "lokr",
        "dora",
        "full",
        "textual_inversion",
        "pocket",
    }
    assert words & named == set()


def test_the_library_loads_no_model():
    heavy = {
        "personalization.bases",
        "personalization.sampling.generate",
        "diffusers",
        "transformers",
    }
    assert {m for m in imported("personalization.workspaces.library") if m in heavy} == set()


def test_only_the_hub_module_speaks_to_the_hub():
    users = {
        name
        for name in MODULES
        for module in imported(name)
        if module.startswith("huggingface_hub") and module != "huggingface_hub.errors"
    }
    assert users <= {"personalization.sharing.hub"}


def test_the_only_mutable_module_state_is_the_cache_of_loaded_bases():
    found = set()
    for name, tree in TREES.items():
        for node in tree.body:
            value = getattr(node, "value", None)
            empty = (isinstance(value, ast.Dict) and not value.keys) or (
                isinstance(value, ast.List | ast.Set) and not value.elts
            )
            made = isinstance(value, ast.Call) and ast.unparse(value.func) in (
                "dict",
                "list",
                "set",
                "defaultdict",
                "OrderedDict",
            )
            filled_later = empty or (made and not value.args)
            if isinstance(node, ast.Assign | ast.AnnAssign) and filled_later:
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                found.add(f"{name}.{ast.unparse(target)}")
        found |= {f"{name}: global" for node in ast.walk(tree) if isinstance(node, ast.Global)}
    assert found == {"personalization.bases._LOADED"}


def test_no_module_needs_itself_to_be_imported():
    state: dict[str, str] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if state.get(name) == "open":
            pytest.fail(" -> ".join([*path[path.index(name) :], name]))
        if state.get(name):
            return
        state[name] = "open"
        for other in sorted(imported(name, at_top=True) & set(MODULES)):
            # A package and its own parts may name each other.
            if not (f"{name}.".startswith(f"{other}.") or other.startswith(f"{name}.")):
                visit(other, (*path, name))
        state[name] = "done"

    for name in MODULES:
        visit(name, ())


def test_every_public_error_is_listed():
    from personalization import errors

    raised = {n for n, v in vars(errors).items() if isinstance(v, type) and n.endswith("Error")}
    assert raised == set(errors.__all__)
    assert all(name in errors.__doc__ for name in errors.__all__)
