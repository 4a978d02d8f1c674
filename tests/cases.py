"""What people bring, counted: ``python -m tests.cases``.

Thirty-eight inputs that others have reported as failing, here or in programs like this one: adapter
files, photos and masks, words and prompts, programs; and seventeen ways to harm a visitor or the
app that were found by trying (`tests.safety_cases`). Each is proven by the tests named beside it,
which compare with a reference (an untouched pipeline, PEFT, plain arithmetic) or look for the
sentence that is due. A case is right when all of its tests pass; the last line says how many are.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.safety_cases import SAFETY

OTHERS, STRICT = "adapters/test_other_programs.py", "adapters/test_strict_readers.py"
IMAGES, MASKS, WORDS = "data/test_image_file.py", "data/test_mask_file.py", "data/test_words.py"
PROGRAMS, GENERATE = "claims/test_programs.py", "sampling/test_generate.py"
WORKSPACE, FILES = "workspaces/test_workspace.py", "test_files.py"

# Case: what it is, and the tests of it (file, function) under tests/.
CASES: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "adapter-files/c01": (
        "a LoRA of FLUX.2 klein in Black Forest Labs' names",
        (
            (OTHERS, "test_klein_in_black_forest_labs_names_is_read_as_diffusers_reads_it"),
            (OTHERS, "test_klein_with_underscores_is_the_same"),
        ),
    ),
    "adapter-files/c04": (
        "SDXL in OneTrainer's OMI names",
        ((OTHERS, "test_onetrainers_sdxl_is_kohyas_with_dots"),),
    ),
    "adapter-files/c06": (
        "PEFT's prefix behind the component",
        ((OTHERS, "test_one_module_in_every_spelling"),),
    ),
    "adapter-files/c07": (
        "the adapter's name in PEFT's keys",
        ((OTHERS, "test_one_module_in_every_spelling"),),
    ),
    "adapter-files/c08": (
        "tensors in 8 bits",
        ((OTHERS, "test_small_floats_are_read_as_what_they_hold"),),
    ),
    "adapter-files/c09": (
        "two bundled words in a LoRA",
        ((OTHERS, "test_several_bundled_words_are_refused_by_name"),),
    ),
    "adapter-files/c11": (
        "a word that is called by its file's name",
        ((OTHERS, "test_where_the_key_is_no_word_the_files_name_is"),),
    ),
    "adapter-files/c13": (
        "a word for one of SDXL's two text encoders",
        ((OTHERS, "test_one_of_sdxls_two_is_for_the_encoder_that_it_names"),),
    ),
    "adapter-files/c14": (
        "words in other scripts",
        (
            (OTHERS, "test_where_the_key_is_no_word_the_files_name_is"),
            ("workspaces/test_library.py", "test_a_slug_is_one_safe_name"),
        ),
    ),
    "adapter-files/c15": (
        "SDXL's UNet with its first text encoder alone",
        (
            (OTHERS, "test_a_unet_beside_a_text_encoder_tells_the_family"),
            (OTHERS, "test_a_family_is_told_by_its_paths_and_widths"),
        ),
    ),
    "adapter-files/c17": (
        "a DoRA of convolutions, taken away for diffusers and PEFT",
        (
            (STRICT, "test_an_untouched_pipeline_loads_what_is_offered_for_diffusers"),
            (STRICT, "test_peft_loads_what_is_offered_for_peft"),
        ),
    ),
    "adapter-files/c19": (
        "several algorithms in one file",
        (
            (STRICT, "test_an_untouched_pipeline_loads_what_is_offered_for_diffusers"),
            (STRICT, "test_what_is_offered_for_kohya_has_one_algorithm_in_its_shapes"),
        ),
    ),
    "adapter-files/c21": (
        "PiSSA, OLoRA: an adapter that began from a changed base",
        (
            (OTHERS, "test_an_adapter_that_began_from_a_changed_base_is_refused"),
            (OTHERS, "test_an_adapter_that_began_from_the_plain_base_is_read_as_peft_reads_it"),
        ),
    ),
    "adapter-files/c22": (
        "a pointer, a page, a picture under an adapter's name",
        ((FILES, "test_a_file_of_another_kind_is_named_and_nobody_is_sent_to_fetch_it_again"),),
    ),
    "adapter-files/c23": (
        "the thirteenth file of a repository",
        (
            (
                "sharing/test_hub.py",
                "test_the_thirteenth_file_is_found_and_a_list_that_is_cut_says_so",
            ),
        ),
    ),
    "adapter-files/c24": (
        "a change that half precision does not hold",
        (
            (
                "stacking/test_stack.py",
                "test_what_is_more_than_the_bases_precision_holds_is_refused",
            ),
        ),
    ),
    "adapter-files/c25": (
        "a word taken away for ComfyUI and A1111",
        ((OTHERS, "test_for_comfyui_and_a1111_the_words_file_is_called_as_the_word"),),
    ),
    "photos-words-api/c01": (
        "two jobs from the same photos",
        (
            (PROGRAMS, "test_two_visitors_teach_from_the_same_photos_at_once"),
            (
                "page/test_requests.py",
                "test_uploads_are_read_and_stay_for_whoever_else_sent_the_same",
            ),
        ),
    ),
    "photos-words-api/c02": (
        "a word inside a word of the prompt",
        (
            (
                "bases/test_learned_embedding.py",
                "test_a_prompt_that_only_has_the_letters_draws_the_bases_own_picture",
            ),
        ),
    ),
    "photos-words-api/c04": (
        "a prompt longer than the base reads",
        (
            (
                "bases/test_windows.py",
                "test_of_stable_diffusion_the_last_states_are_joined",
            ),
            ("page/test_unread.py", "test_a_program_is_told_what_was_cut_off"),
            (
                "bases/test_context.py",
                "test_what_is_not_read_changes_nothing_and_what_is_read_does",
            ),
        ),
    ),
    "photos-words-api/c06": (
        "a word inside a word of a caption",
        ((WORDS, "test_letters_in_another_word_are_not_the_word"),),
    ),
    "photos-words-api/c07": (
        "a class noun that holds the word",
        ((WORDS, "test_a_noun_with_the_word_in_it_is_refused"),),
    ),
    "photos-words-api/c08": (
        "a mask with transparency",
        ((MASKS, "test_the_subject_is_white_and_the_rest_black"),),
    ),
    "photos-words-api/c10": (
        "a mask of zeros and ones",
        ((MASKS, "test_any_two_levels_are_black_and_white"),),
    ),
    "photos-words-api/c11": (
        "an EXIF that cannot be read",
        ((IMAGES, "test_an_exif_that_cannot_be_read_is_passed_over"),),
    ),
    "photos-words-api/c13": (
        "a raw file's thumbnail",
        (
            (IMAGES, "test_of_a_tiffs_pages_the_photo_is_taken_and_not_its_copy_in_small"),
            (IMAGES, "test_a_raw_file_is_called_one"),
        ),
    ),
    "photos-words-api/c15": (
        "a TIFF of fractions",
        ((IMAGES, "test_fractions_are_white_at_the_scale_that_holds_the_bulk_of_them"),),
    ),
    "photos-words-api/c16": (
        "grey of 16 bits with one transparent value",
        ((IMAGES, "test_white_shows_through_one_clear_value_of_sixteen_bits"),),
    ),
    "photos-words-api/c17": (
        "Display P3 by number in a HEIC",
        ((IMAGES, "test_display_p3_by_number_comes_out_as_by_its_matrices"),),
    ),
    "photos-words-api/c18": (
        "a small change at few steps",
        ((GENERATE, "test_a_change_that_leaves_no_step_says_how_many_it_takes"),),
    ),
    "photos-words-api/c19": (
        "the tools of MCP",
        (
            (PROGRAMS, "test_every_tool_says_in_whole_sentences_what_it_takes"),
            (PROGRAMS, "test_an_assistant_draws_sweeps_teaches_and_reads_the_report"),
        ),
    ),
    "photos-words-api/c21": (
        "values of the wrong type",
        (
            (PROGRAMS, "test_what_is_sent_wrongly_is_refused_by_its_name"),
            (PROGRAMS, "test_other_endpoints_refuse_in_sentences_too"),
        ),
    ),
    "photos-words-api/c22": (
        "misspelt keys",
        (
            (PROGRAMS, "test_what_is_sent_wrongly_is_refused_by_its_name"),
            ("page/test_requests.py", "test_a_block_that_the_base_does_not_have_is_refused"),
        ),
    ),
    "photos-words-api/c23": (
        "the last seeds",
        ((GENERATE, "test_after_the_last_seed_comes_the_first"),),
    ),
    "photos-words-api/c24": (
        "a workspace that expires under an open page",
        (
            (
                "page/test_expired.py",
                "test_the_next_photo_begins_a_new_one_and_what_is_gone_is_said",
            ),
            (WORKSPACE, "test_one_that_has_gone_begins_anew_under_its_id_and_empty"),
        ),
    ),
    "photos-words-api/c26": (
        "a disk that is full before the first step",
        ((WORKSPACE, "test_a_disk_that_keeps_nothing_is_said_and_nothing_half_made_is_left"),),
    ),
    "photos-words-api/c28": (
        "a home that cannot be written",
        (
            (WORKSPACE, "test_a_home_that_cannot_be_made_names_the_variable_to_set"),
            (PROGRAMS, "test_without_a_home_the_app_starts_and_says_what_to_set"),
        ),
    ),
    "photos-words-api/c29": (
        "a byte order mark in a caption",
        ((WORDS, "test_what_nobody_sees_is_no_part_of_a_caption"),),
    ),
    **SAFETY,
}


@dataclass
class Outcomes:
    """Pytest's plugin: which tests passed and which did not, by file and function."""

    passed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    not_passed: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def pytest_runtest_logreport(self, report: Any) -> None:
        test = report.nodeid.partition("[")[0]
        if report.passed and report.when == "call":
            self.passed[test] += 1
        elif not report.passed:  # failed, at any time, or skipped
            self.not_passed[test] += 1


def node(file: str, function: str) -> str:
    """As pytest names it."""
    return f"tests/{file}::{function}"


def main() -> None:
    nodes = {node(*test): None for _, tests in CASES.values() for test in tests}
    outcomes = Outcomes()
    pytest.main(["-q", "--no-header", *sys.argv[1:], *nodes], plugins=[outcomes])
    right = 0
    for case, (about, tests) in CASES.items():
        names = [node(*test) for test in tests]
        count = sum(outcomes.passed[name] for name in names)
        good = all(outcomes.passed[n] and not outcomes.not_passed[n] for n in names)
        right += good
        print(f"{'right' if good else 'WRONG'}  {case:<21} {about} ({count} passed)")
    print(f"{right}/{len(CASES)}")
    sys.exit(right < len(CASES))


if __name__ == "__main__":
    main()
