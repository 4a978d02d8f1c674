"""The rules of the house: what may know what, read off the code itself.

An arrow is an import, wherever it stands: at the top, in a function, under TYPE_CHECKING, or as a
module's name in a string (`import_module`).
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "personalization"

# What lies lower never imports what lies higher. The pocket stands beside: it is a tool.
GROUND = ("errors", "files", "events", "cache", "recipe")
FLOORS = (
    *("data", "bases", "adapters", "methods", "stacking", "sampling", "training"),
    *("evaluation", "workspaces", "sharing", "page"),
)
TOP = ("", "__main__", "command_line")  # the package's public face, and its command line


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in [*sorted(PACKAGE.rglob("*.py")), ROOT / "app.py"]}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}
MODULES_IN_FOLDERS = {name for name in MODULES if "." in name}  # their names mean nothing else
NODES = {name: list(ast.walk(tree)) for name, tree in TREES.items()}


def imported(name: str) -> set[str]:
    """Modules that `name` imports; for a name taken out of a module, that module."""
    folder = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    modules: set[str] = set()
    for node in NODES[name]:
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = folder.split(".")[: folder.count(".") + 2 - node.level] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            parts = {f"{source}.{alias.name}" for alias in node.names}
            modules |= {part if part in MODULES else source for part in parts}
        elif isinstance(node, ast.Constant) and node.value in MODULES_IN_FOLDERS - {name}:
            modules.add(node.value)
    return modules


ARROWS = {name: imported(name) for name in MODULES}


def under(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def inside(*folders: str) -> set[str]:
    return {name for name in MODULES if under(name, *(f"personalization.{f}" for f in folders))}


def users_of(*packages: str) -> set[str]:
    return {name for name, arrows in ARROWS.items() if any(under(m, *packages) for m in arrows)}


def floor(name: str) -> int:
    room = name.removeprefix("personalization").removeprefix(".").partition(".")[0]
    if room in GROUND:
        return 0
    return len(FLOORS) + 1 if room in TOP else FLOORS.index(room) + 1


def calls_of(node: ast.AST) -> set[str]:
    """What is called in it, by the last part of its name."""
    called = [n.func for n in ast.walk(node) if isinstance(n, ast.Call)]
    return {ast.unparse(function).rpartition(".")[2] for function in called}


def texts(name: str) -> set[str]:
    return {
        node.value
        for node in NODES[name]
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def calls_when_imported(node: ast.AST) -> Iterator[ast.Call]:
    """Calls that importing a module makes: all but those in functions' bodies."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for decorator in getattr(node, "decorator_list", []):
            yield from calls_when_imported(decorator)
        return
    if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
        return
    if isinstance(node, ast.Call):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from calls_when_imported(child)


# Where things are


def test_the_packages_root_has_at_most_eight_modules():
    assert len(list(PACKAGE.glob("*.py"))) <= 8


def test_every_folder_is_a_stage_that_is_known():
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert folders == {*FLOORS, "pocket", "command_line"}


def test_every_folder_has_its_twin_among_the_tests():
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    tested = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert folders <= tested


# What knows what


def test_nothing_imports_what_lies_higher():
    higher = {
        f"{name} -> {other}"
        for name in set(MODULES) - inside("pocket") - {"app"}
        for other in ARROWS[name] & set(MODULES) - inside("pocket")
        if floor(other) > floor(name)
    }
    assert higher == set()


def test_no_circle_of_imports():
    try:
        TopologicalSorter(
            {name: arrows & set(MODULES) for name, arrows in ARROWS.items()}
        ).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_pocket_knows_no_page_and_nothing_knows_the_pocket():
    assert users_of("personalization.page").isdisjoint(inside("pocket"))
    assert users_of("personalization.pocket") <= inside("pocket")


def test_only_the_page_imports_gradio_and_spaces_and_only_the_app_imports_the_page():
    page = inside("page") | {"app"}
    assert users_of("gradio", "gradio_client", "spaces") <= page
    assert users_of("personalization.page") <= page


def test_what_the_page_says_needs_no_web_framework():
    assert users_of("gradio", "spaces").isdisjoint(inside("page.html"))


def test_only_sharing_speaks_to_the_hub():
    # A base and an encoder are fetched by diffusers' and transformers' own loading.
    speaking = {
        name
        for name, arrows in ARROWS.items()
        if any(under(m, "huggingface_hub") and m != "huggingface_hub.errors" for m in arrows)
    }
    assert speaking <= inside("sharing")


def test_a_token_reaches_sharing_alone_through_the_page():
    takes = {
        name
        for name in MODULES
        for node in NODES[name]
        if isinstance(node, ast.arg) and node.arg in ("token", "hf_token", "oauth_token")
    }
    assert takes <= inside("sharing", "page")
    assert not {n for n in MODULES if texts(n) & {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}}


def test_gpu_holds_what_runs_on_a_gpu_alone():
    gpu = TREES["personalization.page.gpu"].body
    functions = [node for node in gpu if isinstance(node, ast.FunctionDef)]
    decorated = {f.name for f in functions if "spaces.GPU" in map(ast.unparse, f.decorator_list)}
    decorated |= {
        f.name
        for f in functions
        if any(ast.unparse(d).startswith("spaces.GPU(") for d in f.decorator_list)
    }
    assert not [node.name for node in gpu if isinstance(node, ast.ClassDef)]
    # The rest is what they need to be declared: nobody else asks for it.
    rest = {f.name for f in functions} - decorated
    for name in set(MODULES) - {"personalization.page.gpu"}:
        for node in NODES[name]:
            if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("gpu"):
                assert not rest & {alias.name for alias in node.names}, name
        assert "spaces.GPU" not in {
            ast.unparse(n) for n in NODES[name] if isinstance(n, ast.Attribute)
        }


def test_bases_know_no_methods():
    assert users_of("personalization.methods").isdisjoint(inside("bases"))


def test_methods_know_no_family():
    families = ("personalization.bases.unet", "personalization.bases.flow")
    assert users_of(*families).isdisjoint(inside("methods"))


def test_the_loop_names_no_family_and_no_method():
    loop = "personalization.training.loop"
    methods = {module for module in ARROWS[loop] if under(module, "personalization.methods")}
    assert methods <= {"personalization.methods"}
    families = {"unet", "transformer", "pocket"}
    kinds = {"textual_inversion", "lora", "loha", "lokr", "dora", "full"}
    assert texts(loop).isdisjoint(families | kinds)


def test_the_library_loads_no_model():
    loading = ("diffusers", "transformers", "torch", "personalization.sampling.generate")
    arrows = ARROWS["personalization.workspaces.library"]
    assert not {module for module in arrows if under(module, *loading)}
    assert "personalization.bases" not in arrows


# What nothing does


def test_importing_starts_no_thread_and_makes_no_folder():
    doing = {"Thread", "start", "Popen", "mkdir", "makedirs", "mkdtemp"}
    ours = set()  # classes that do it once they are made
    for node in (node for nodes in NODES.values() for node in nodes):
        if isinstance(node, ast.ClassDef):
            made = [part for part in node.body if getattr(part, "name", "") == "__init__"]
            if any(calls_of(part) & doing for part in made):
                ours.add(node.name)
    effects = {
        f"{name}: {ast.unparse(call.func)}"
        for name, tree in TREES.items()
        for call in calls_when_imported(tree)
        if ours & {*(parts := ast.unparse(call.func).split("."))} or parts[-1] in doing
    }
    assert effects == set()


def test_nothing_is_unpickled():
    assert users_of("pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal") == set()
    visitors = set(MODULES) - inside("pocket")
    called = {
        f"{name}: {ast.unparse(node.func)}"
        for name in visitors
        for node in NODES[name]
        if isinstance(node, ast.Call)
    }
    assert not {call for call in called if call.endswith((": torch.load", ": eval", ": exec"))}
    given = {
        each.arg for nodes in NODES.values() for each in nodes if isinstance(each, ast.keyword)
    }
    assert "trust_remote_code" not in given, "a repository's code is not run"


BUFFERS = ("BytesIO()", "io.BytesIO()")
WRITERS = {
    *("write_text", "write_bytes", "save_file", "save_pretrained", "savez", "savez_compressed"),
    *("copyfile", "copy2", "copytree", "copyfileobj", "move", "make_archive", "extractall"),
    *("mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryFile", "TemporaryDirectory"),
    *("SpooledTemporaryFile", "fdopen", "urlretrieve", "symlink_to", "hardlink_to", "FileHandler"),
}
# Adapter, Picture, Report: the arguments of whose `save` are paths, and which write by files.py.
SAVED = {"adapter", "plain", "new", "source", "p", "picture", "report", "grid.sheet()"}


def writes(node: ast.Call, buffers: set[str]) -> bool:
    """Whether a call writes a file by itself; `buffers` are in memory alone."""
    called, first = ast.unparse(node.func), ast.unparse(node.args[0]) if node.args else ""
    receiver, _, name = called.rpartition(".")
    if receiver == "os" and name in ("open", "write"):
        return True
    if name == "open" and receiver not in ("Image", "self", "cls", "Run", "Report", "Visit"):
        modes = [*node.args, *(each.value for each in node.keywords if each.arg == "mode")]
        said = [each.value for each in modes if isinstance(each, ast.Constant)]
        return any(isinstance(each, str) and set(each) & set("wax+") for each in said[:2])
    if name == "ZipFile":
        return len(node.args) > 1 and first not in buffers
    if name in ("save", "dump"):
        made = receiver.partition("(")[0] in ("Adapter", "Picture")
        return name == "dump" or not (first in buffers or receiver in SAVED or made)
    return name in WRITERS or called == "shutil.copy"


def test_every_write_goes_through_the_one_that_leaves_no_half_file():
    # The pocket is a tool for whoever builds it: its files are looked at before they are kept.
    found = set()
    for name in set(MODULES) - inside("pocket") - {"personalization.files"}:
        buffers = {
            ast.unparse(target)
            for node in NODES[name]
            if isinstance(node, ast.Assign) and ast.unparse(node.value) in BUFFERS
            for target in node.targets
        }
        buffers |= {
            ast.unparse(item.optional_vars)
            for node in NODES[name]
            if isinstance(node, ast.With)
            for item in node.items
            if item.optional_vars and ast.unparse(item.context_expr).startswith("writing(")
        }
        found |= {
            f"{name}:{node.lineno}: {ast.unparse(node)[:80]}"
            for node in NODES[name]
            if isinstance(node, ast.Call) and writes(node, buffers)
        }
    assert found == set()


@pytest.mark.parametrize(
    "code",
    [
        *("open(path, 'w')", "path.open('ab')", "path.open(mode='x')", "io.open(path, 'r+')"),
        *("path.write_text(a)", "np.save(path, a)", "torch.save(a, path)", "image.save(path)"),
        *("save_file(a, path)", "shutil.copyfile(a, path)", "json.dump(a, file)", "os.open(a, 1)"),
        *("ZipFile(path, 'w')", "tempfile.TemporaryDirectory()", "model.save_pretrained(path)"),
    ],
)
def test_a_write_is_told_from_what_is_none(code: str):
    (statement,) = ast.parse(code).body
    assert isinstance(statement, ast.Expr)
    assert isinstance(statement.value, ast.Call)
    assert writes(statement.value, {"buffer"})
    for harmless in ("path.open('rb')", "open(path)", "image.save(buffer, 'PNG')", "Run.open(a)"):
        (statement,) = ast.parse(harmless).body
        assert isinstance(statement, ast.Expr)
        assert isinstance(statement.value, ast.Call)
        assert not writes(statement.value, {"buffer"})


def test_the_only_mutable_module_state_is_the_cache_of_loaded_bases():
    grown = {*("append", "extend", "add", "update", "setdefault", "pop", "clear", "remove")}
    state = set()
    for name, tree in TREES.items():
        held = set()
        for node in tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                held |= {target.id for target in targets if isinstance(target, ast.Name)}
        for node in NODES[name]:
            if isinstance(node, ast.Global):
                state |= {f"{name}.{variable}" for variable in node.names}
            written = isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load)
            if written or (isinstance(node, ast.Attribute) and node.attr in grown):
                state |= {f"{name}.{v}" for v in held & {ast.unparse(node.value)}}
    assert state == {"personalization.bases.registry._LOADED"}


def test_every_public_error_is_listed():
    from personalization import errors

    raised = {n for n, v in vars(errors).items() if isinstance(v, type) and n.endswith("Error")}
    assert raised == set(errors.__all__)
    assert all(name in errors.__doc__ for name in errors.__all__)
