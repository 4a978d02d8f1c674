"""The three tabs through gradio_client: what a program, or a notebook, can do with the app."""

from __future__ import annotations

from pathlib import Path

import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError

from personalization.adapters.adapter import read
from personalization.files import read_header
from personalization.sampling.picture_record import read_record
from personalization.workspaces.workspace import Workspaces
from tests.support.server import ROOT

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "assets" / "examples"


@pytest.fixture(scope="module")
def photos():
    folder = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())[0]
    return [handle_file(str(path)) for path in sorted(folder.glob("*.png"))[:4]]


@pytest.fixture(scope="module")
def taught_word(client, photos, tmp_path_factory):
    """Of the photos, and of one beside them that is broken."""
    broken = tmp_path_factory.mktemp("photos") / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    given = [*photos, handle_file(str(broken))]
    status, adapter, pictures = client.predict(
        given, "<my-thing>", "dog", "creature", 6, 0, "", api_name="/train_word"
    )
    return status, Path(adapter), pictures


@pytest.fixture(scope="module")
def taught_subject(client, photos, taught_word):
    session = taught_word[0]["session"]
    status, adapter, pictures = client.predict(
        photos, "sks", "dog", "creature", 6, 0, session, api_name="/train_subject"
    )
    return status, Path(adapter), pictures


def test_teaching_a_word_gives_a_file_of_kilobytes_and_pictures(taught_word):
    status, adapter, pictures = taught_word
    assert status["state"] == "finished"
    assert adapter.stat().st_size < 20_000
    assert read(adapter).description.placeholder_token == "<my-thing>"
    assert len(pictures) >= 3


def test_teaching_a_subject_gives_a_file_of_a_few_megabytes_at_most(taught_subject):
    status, adapter, pictures = taught_subject
    assert status["state"] == "finished"
    assert status["trigger"] == "sks dog"
    assert adapter.stat().st_size < 5_000_000
    assert read(adapter).description.method == "lora"
    assert len(pictures) >= 3


def test_what_was_taught_stacks(client, taught_word, taught_subject):
    session = taught_subject[0]["session"]
    own = [a for a in client.predict(session, api_name="/list_adapters") if a["own"]]
    assert {a["method"] for a in own} == {"textual_inversion", "lora"}
    stack = [{"name": a["name"], "weight": 0.8} for a in own]
    pictures, records = client.predict(
        stack, "a photo of sks dog", "", 5, 2, 4, 4.0, session, api_name="/draw_stack"
    )
    assert [r["seed"] for r in records] == [5, 6]
    assert {a["weight"] for a in records[0]["adapters"]} == {0.8}
    record = read_record(Path(pictures[0]["image"]))
    assert record is not None
    assert record.to_dict() == records[0]


def test_the_ready_adapters_are_there_for_everyone(client):
    ready = client.predict("", api_name="/list_adapters")
    assert len(ready) >= 2
    stack = [{"name": a["name"], "weight": 1.0} for a in ready[:2]]
    pictures, _ = client.predict(stack, "a dog", "", 0, 1, 4, 4.0, "", api_name="/draw_stack")
    assert len(pictures) == 1


def test_a_stack_is_compared_swept_saved_and_taken_away(app, client):
    session = Workspaces(app.home / "workspaces").new().id
    stack = [{"name": "crowned-dog", "weight": 1.0, "blocks": {"mid_block": 0.5}}]
    stack += [{"name": "crowned-dog", "weight": 1.0, "text_weight": 0.0}]
    said = client.predict(stack, session, api_name="/compare_adapters")
    assert "nearly the same" in said["pairs"][0]["words"]
    ready = read(ROOT / "assets" / "adapters" / "crowned-dog.safetensors")
    assert said["suggested"] == [ready.description.strength / 2] * 2
    across, down = {"what": "steps", "values": [1, 2]}, {"what": "combine", "values": ["ties"]}
    sheet, records = client.predict(
        stack, "a dog", across, down, 0, session, api_name="/sweep_stack"
    )
    assert [[r["steps"] for r in row] for row in records] == [[1, 2]]
    assert records[0][0]["combine"] == "ties"
    record = read_record(Path(sheet))
    assert record is not None
    assert record.adapters[0].name == "crowned-dog"
    saved = client.predict(stack, "both", session, "sum", api_name="/save_stack")
    assert saved == {"session": session, "name": "both", "residual": 0}
    files = client.predict("both", session, api_name="/export_adapter")
    assert [Path(file).name for file in files] == [
        "both-diffusers.safetensors", "both-kohya.safetensors",
    ]  # fmt: skip
    with pytest.raises(AppError, match="is no repository’s name"):
        client.predict("../..", "", session, api_name="/add_from_hub")


def test_a_reference_and_a_map_guide_what_a_program_draws(client, photos, taught_word):
    session = taught_word[0]["session"]
    listed = client.predict(api_name="/list_bases")[0]
    assert (listed["references"], "edges" in listed["maps"]) == (4, True)

    def drawn(reference, structure):
        asked = ("a photo of a dog", "", 3, 1, 2, 4.0, session, "sum", 0.5, "", "", False)
        pictures, records = client.predict([], *asked, reference, structure, api_name="/draw_stack")
        return Path(pictures[0]["image"]), records[0]

    reference = {"pictures": photos[:2], "weight": 0.7, "reach": "style"}
    path, record = drawn(reference, {"picture": photos[0], "until": 0.5})
    assert len(record["reference"]["pictures"]) == 2
    assert (record["reference"]["weight"], record["reference"]["reach"]) == (0.7, "style")
    assert (record["structure"]["kind"], record["structure"]["until"]) == ("edges", 0.5)
    assert read_record(path).to_dict() == record
    # What this base has nothing for is left out with a sentence, and the rest is drawn.
    _, record = drawn(reference, {"picture": photos[0], "kind": "pose"})
    assert record["structure"]["kind"] == ""
    assert record["reference"]["weight"] == 0.7
    assert "follows a map of pose" in record["notes"][0]
    with pytest.raises(AppError, match="reference weight is 7; it must lie"):
        drawn(reference | {"weight": 7}, None)
    with pytest.raises(AppError, match=r"reference\.pictures has 5 items: at most 4 are taken"):
        drawn({"pictures": (photos * 2)[:5]}, None)
    with pytest.raises(AppError, match="one of edges, depth, lineart, pose"):
        drawn(None, {"picture": photos[0], "kind": "smell"})
    across, down = {"what": "guidance", "values": [2, 4]}, {"what": "steps", "values": [2]}
    _, rows = client.predict(
        [], "a dog", across, down, 0, session, "", reference, None, api_name="/sweep_stack"
    )
    assert [record["reference"]["weight"] for record in rows[0]] == [0.7, 0.7]


def test_two_visitors_at_once_get_what_each_asked_for(client):
    stacks = [[], [{"name": "crowned-dog", "weight": 1.0}]]
    asked = ("a photo of sks dog", "", 3, 1, 3, 4.0, "")

    def pixels(answer):
        from PIL import Image

        return Image.open(answer[0][0]["image"]).tobytes()

    alone = [pixels(client.predict(s, *asked, api_name="/draw_stack")) for s in stacks]
    assert alone[0] != alone[1]
    jobs = [client.submit(s, *asked, api_name="/draw_stack") for s in stacks * 2]
    assert [pixels(job.result()) for job in jobs] == alone * 2


def test_the_same_seed_draws_the_same_picture(client):
    draws = [
        client.predict([], "a red cat", "", 3, 1, 4, 4.0, "", api_name="/draw_stack")[0][0]["image"]
        for _ in range(2)
    ]
    from PIL import Image

    assert Image.open(draws[0]).tobytes() == Image.open(draws[1]).tobytes()


REFUSED = {
    "no photos": ([], "<w>", "dog", "photos"),
    "a word that exists": (None, "cat", "dog", "knows the word"),
    "an empty class noun": (None, "<w>", " ", "noun"),
    "an empty word": (None, "", "dog", "word is empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_gets_a_sentence_before_any_training(client, photos, name):
    given, placeholder_token, class_noun, said = REFUSED[name]
    with pytest.raises(AppError, match=said):
        client.predict(
            photos if given is None else given, placeholder_token, class_noun, "object", 2, 0, "",
            api_name="/train_subject",
        )  # fmt: skip


def test_one_broken_photo_among_several_is_named_and_the_others_are_used(taught_word):
    status, _, _ = taught_word
    assert status["state"] == "finished"
    assert any("broken.png" in note for note in status["notes"])


def test_a_weight_out_of_range_is_refused_by_name(client):
    name = client.predict("", api_name="/list_adapters")[0]["name"]
    with pytest.raises(AppError, match="-2"):
        client.predict(
            [{"name": name, "weight": 7}], "a dog", "", 0, 1, 2, 4.0, "", api_name="/draw_stack"
        )


def test_a_session_that_is_nobodys_is_refused(client):
    with pytest.raises(AppError):
        client.predict("../../etc", api_name="/list_adapters")


def test_the_word_is_read_as_the_base_reads_it(client):
    assert client.predict("dog", api_name="/check_placeholder_token")["error"]
    said = client.predict("<my-mug>", api_name="/check_placeholder_token")
    assert len(said["pieces"]) > 1
    assert said["error"] == ""


def test_workspaces_are_not_served(app, taught_subject):
    import urllib.error
    import urllib.request

    inside = next((app.home / "workspaces").rglob("adapter.safetensors"))
    assert read_header(inside)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{app.url}/gradio_api/file={inside}")
    assert refused.value.code in (403, 404)


def test_progress_arrives_while_a_run_is_under_way(client, photos):
    job = client.submit(photos, "<zzq>", "dog", "creature", 12, api_name="/train_word")
    seen = [status for status, *_ in job]
    states = list(dict.fromkeys(status["state"] for status in seen))
    assert states[0] == "waiting"
    assert states[-1] == "finished"
    steps = [status["step"] for status in seen if status["state"] == "learning"]
    assert steps == sorted(steps)
    assert steps, "no step was told before the end"
    assert all(status["steps"] == 12 for status in seen if "steps" in status)


def test_a_run_that_waits_is_stopped_continued_and_taken_as_it_is(client, photos, taught_word):
    session = taught_word[0]["session"]
    asked = (photos, "<held>", "dog", "creature")
    job = client.submit(*asked, 4000, session=session, confirm=True, api_name="/train_word")
    status = next(out[0] for out in job if out[0].get("step", 0) >= 2)
    stopped = client.predict(session, status["run"], api_name="/stop_run")
    assert stopped["steps"] == 4000
    with pytest.raises(AppError, match="What it has learned is kept: continue it"):
        job.result(timeout=60)
    asked = (session, status["run"], True)
    ended, adapter, pictures = client.predict(*asked, api_name="/continue_run")
    assert (ended["state"], ended["run"]) == ("finished", status["run"])
    assert 2 <= read(Path(adapter)).description.recipe["steps done"] < 4000
    assert len(pictures) >= 3
    # Asked for once more, it is given at once; stopping what is finished changes nothing.
    client.predict(session, status["run"], api_name="/stop_run")
    again, same, _ = client.predict(session, status["run"], api_name="/continue_run")
    assert again["state"] == "finished"
    assert read(Path(same)).sha256 == read(Path(adapter)).sha256


def test_a_run_that_is_held_begins_when_it_is_continued(client, photos, taught_word):
    session = taught_word[0]["session"]
    asked = (photos, "<held>", "dog", "creature", 2)
    held, adapter, _ = client.predict(*asked, session=session, hold=True, api_name="/train_word")
    assert (held["state"], adapter) == ("held", None)
    done, adapter, pictures = client.predict(session, held["run"], api_name="/continue_run")
    assert (done["state"], done["run"]) == ("finished", held["run"])
    assert read(Path(adapter)).description.recipe["steps done"] == 2
    assert len(pictures) >= 3
