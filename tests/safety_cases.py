"""Ways to harm a visitor, or the app, that were found by trying: of what `tests.cases` counts."""

DOOR, BLOCKS, BOUNDS = "page/test_door.py", "page/test_blocks.py", "page/test_bounds.py"
DAMAGE, FORGOTTEN, THINGS = "page/test_damage.py", "page/test_forgotten.py", "page/test_things.py"
RUNS, HOSTILE, BROWSER = (
    "page/test_endpoint_runs.py",
    "page/test_hostile.py",
    "claims/test_browser.py",
)
EXPIRY, WORKSPACE = "workspaces/test_expiry.py", "workspaces/test_workspace.py"
SERVED, CLOCK = "workspaces/test_served.py", "workspaces/test_clock.py"
PROGRAMS, CACHE, FILES = "claims/test_programs.py", "test_cache.py", "test_files.py"

SAFETY: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "safety/s01": (
        "another site uses the visitor's sign-in",
        (
            (DOOR, "test_the_visitors_sign_in_is_for_the_apps_own_page_alone"),
            (DOOR, "test_another_site_reads_a_public_app_as_anybody_does"),
            ("page/test_privacy.py", "test_a_token_is_neither_kept_nor_logged"),
        ),
    ),
    "safety/s02": (
        "open pages fill the queue of what computes",
        ((BROWSER, "test_a_run_goes_on_when_the_page_closes_and_is_found_live"),),
    ),
    "safety/s03": (
        "two visitors send the same photo",
        (
            (FORGOTTEN, "test_another_visitors_same_photo_stays"),
            (SERVED, "test_an_upload_goes_with_the_last_who_sent_it"),
        ),
    ),
    "safety/s04": (
        "one damaged or newer file closes the page",
        (
            (DAMAGE, "test_the_page_opens_and_says_what_is_damaged"),
            (DAMAGE, "test_a_photo_of_the_form_that_is_damaged_is_left_out"),
            (DAMAGE, "test_what_a_later_version_adds_to_log_picture_and_adapter_is_passed_over"),
        ),
    ),
    "safety/s05": (
        "what was forgotten is still served",
        (
            (FORGOTTEN, "test_nothing_is_left_of_photo_canvas_and_files"),
            (FORGOTTEN, "test_a_deleted_picture_is_not_served"),
            (SERVED, "test_after_a_kill_the_next_start_deletes_what_was_handed_out"),
        ),
    ),
    "safety/s06": (
        "a photo that was taken out stays on the disk",
        ((THINGS, "test_the_cross_on_a_photo_deletes_its_file_unless_another_form_has_it"),),
    ),
    "safety/s07": (
        "a full workspace, and nothing that deletes",
        (
            (WORKSPACE, "test_a_full_workspace_says_so_and_takes_nothing_more"),
            (THINGS, "test_all_of_a_kind_goes_at_once_but_a_run_that_is_going"),
            (THINGS, "test_programs_do_the_same"),
        ),
    ),
    "safety/s08": (
        "expiry ends for good, or expires everybody",
        (
            (EXPIRY, "test_whatever_else_lies_there_the_old_ones_go"),
            (EXPIRY, "test_several_may_tidy_at_once"),
            (CLOCK, "test_a_wrong_clock_at_a_start_expires_nobody_and_an_old_one_goes"),
        ),
    ),
    "safety/s09": (
        "limits that are checked after the work",
        (
            (BOUNDS, "test_more_than_a_field_takes_is_refused_at_once"),
            (BOUNDS, "test_a_sweep_of_too_many_pictures_is_refused_before_it_is_laid_out"),
            (FILES, "test_a_header_that_lists_more_than_any_adapter_has_is_refused_at_once"),
            (BLOCKS, "test_more_than_can_be_meant_is_refused"),
        ),
    ),
    "safety/s10": (
        "a LoHa of high rank takes gigabytes",
        (
            (
                "stacking/test_interference.py",
                "test_a_rank_beyond_the_layer_costs_what_the_layer_has",
            ),
        ),
    ),
    "safety/s11": (
        "each call makes a workspace",
        (
            (RUNS, "test_what_is_drawn_for_a_session_is_kept_there_with_its_record"),
            (EXPIRY, "test_there_are_no_more_than_the_app_keeps_and_empty_ones_give_way"),
        ),
    ),
    "safety/s12": (
        "wrong types answered in Python's words",
        (
            (PROGRAMS, "test_what_is_sent_wrongly_is_refused_by_its_name"),
            (HOSTILE, "test_each_event_of_the_page_answers_what_does_not_belong_there"),
        ),
    ),
    "safety/s13": (
        "the cache of class images only grows",
        (
            (
                "page/test_housekeeping.py",
                "test_what_is_old_goes_what_was_deleted_goes_and_the_owner_is_told",
            ),
        ),
    ),
    "safety/s14": (
        "a home that is full or read-only",
        (
            (WORKSPACE, "test_a_disk_that_keeps_nothing_is_said_and_nothing_half_made_is_left"),
            (WORKSPACE, "test_a_home_that_cannot_be_written_can_be_looked_at"),
            (PROGRAMS, "test_without_a_home_the_app_starts_and_says_what_to_set"),
        ),
    ),
    "safety/s15": (
        "a home that others can list",
        (
            (EXPIRY, "test_no_other_user_of_the_machine_reads_or_lists_it"),
            (
                BROWSER,
                "test_ones_things_are_listed_deleted_and_brought_back_with_their_place_on_the_stack",
            ),
        ),
    ),
    "safety/s16": (
        "other sites upload, and read what was done",
        (
            (DOOR, "test_another_site_does_nothing_on_somebodys_own_machine"),
            (
                BROWSER,
                "test_nothing_that_was_sent_stands_in_the_log_and_no_other_site_does_anything",
            ),
        ),
    ),
    "safety/s17": (
        "each reload copies everything",
        ((SERVED, "test_the_same_file_again_is_the_same_copy"),),
    ),
}
