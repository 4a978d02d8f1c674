"""A stack as a link: small, readable, opened as it was, and with nothing private in it."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest

from personalization.errors import StackError
from personalization.page.adapter_rows import Row
from personalization.page.address import Address
from personalization.page.session import Visit, workspaces
from personalization.page.stack_link import StackLink, link_to


@pytest.fixture(scope="module")
def tab():
    import app

    return app.stack_tab


@pytest.fixture
def visit():
    workspace = workspaces().new()
    yield Visit(workspace, "")
    workspace.delete()


def parsed(query: str) -> StackLink | None:
    return StackLink.parse(dict(parse_qsl(query.removeprefix("?"))))


@pytest.mark.parametrize(
    "link",
    [
        StackLink((("crowned-dog", 0.55), ("neon", 1.0)), "sks dog, <glow> style", 7),
        StackLink((("someone/mugs/words/<mug>.safetensors", -0.5),), "50% & more, “so”: #1?", 0),
        StackLink((("someone/a,b:c", 2.0),), combine="ties"),
        StackLink((("neon", 0.0),)),
    ],
)
def test_a_link_says_again_what_it_was_made_of(link):
    assert parsed(link.query()) == link


def test_a_link_can_be_read_and_typed():
    link = StackLink((("crowned-dog", 0.55), ("someone/mug-lora", 1.0)), "a mug on the moon", 7)
    assert link.query() == (
        "?stack=crowned-dog:0.55,someone/mug-lora:1&prompt=a%20mug%20on%20the%20moon&seed=7"
    )
    assert parsed("?stack=neon") == StackLink((("neon", 1.0),))


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("stack=neon:loud", "weight “loud”"),
        ("stack=neon:nan", "weight “nan”"),
        ("stack=neon:3", "between -2 and 2"),
        ("stack=" + ",".join(["neon"] * 9), "names 9 adapters"),
        ("stack=neon&seed=-1", "seed “-1”"),
        ("stack=neon&seed=4294967296", "seed"),
        ("stack=neon&seed=٣", "seed"),
        ("stack=neon&combine=magic", "“magic”"),
    ],
)
def test_a_link_that_makes_no_sense_gets_a_sentence(query, sentence):
    with pytest.raises(StackError, match=sentence):
        parsed(query)
    assert sentence in Address.of(dict(parse_qsl(query))).error


def test_what_is_a_visitors_own_is_not_in_the_link(visit):
    library = visit.workspace.library
    own = library.add(library.get("crowned-dog").described(title="my secret dog"), "my secret dog")
    entries = {entry.name: entry for entry in library.list()}
    link, missing = link_to([Row(own.name, 1.0), Row("neon", 0.5)], entries, "hello", 3, "sum")
    assert (link.adapters, missing) == ((("neon", 0.5),), [own])
    assert "secret" not in link.query()
    assert visit.workspace.id not in link.query()


def test_a_link_fills_list_prompt_and_seed_and_says_what_it_cannot(tab, visit):
    link = StackLink((("crowned-dog", 0.55), ("gone", 1.0)), "sks dog on the moon", 7, "ties")
    shown = tab.open_link(visit, Address(stack=link))
    assert shown[tab.adapter_list.stored] == [["crowned-dog", 0.55, None, None, None]]
    assert "no adapter “gone”" in shown[tab.adapter_list.notes]
    assert shown[tab.prompt] == link.prompt
    assert shown[tab.draw_panel.form.seed] == 7
    assert shown[tab.draw_panel.form.vary] is False
    assert shown[tab.combining.combine]["value"] == "ties"


def test_what_came_from_a_public_repository_is_in_the_link_and_not_fetched_again(tab, visit):
    library, source = visit.workspace.library, "someone/dogs/dog.safetensors"
    own = library.add(library.get("crowned-dog").described(source=source), "dog")
    link, missing = link_to([Row(own.name, 0.5)], {own.name: own}, "", None, "sum")
    assert (link.adapters, missing) == (((source, 0.5),), [])
    for named in (source, "someone/dogs"):  # there is no network here: it is found in the library
        shown = tab.open_link(visit, Address(stack=StackLink(((named, 0.5),))))
        assert shown[tab.adapter_list.stored] == [[own.name, 0.5, None, None, None]]


def test_a_file_that_a_visitor_brings_does_not_say_where_it_is_from(visit):
    from personalization.page.adapter_rows import receive

    library = visit.workspace.library
    forged = library.get("crowned-dog").described(source="someone/else")
    path = forged.save(visit.workspace.folder / "forged.safetensors")
    kept = receive("", library, path, "forged")
    assert kept.description
    assert kept.description.source == ""
