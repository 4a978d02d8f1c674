"""The page's colours, lines and type; what a theme cannot say is in assets/page.css."""

from __future__ import annotations

import gradio as gr

INK, LINE, NIGHT = "*neutral_500", "*neutral_300", "#2b3347"
THEME = gr.themes.Base(
    primary_hue=gr.themes.colors.indigo,
    secondary_hue=gr.themes.colors.indigo,
    neutral_hue=gr.themes.colors.slate,
    radius_size=gr.themes.sizes.radius_lg,
    font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"],
    font_mono=["ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace"],
).set(
    **dict.fromkeys(("body_background_fill_dark", "background_fill_primary_dark"), "#0d1018"),
    **dict.fromkeys(("body_text_color_subdued", "block_info_text_color"), INK),
    **dict.fromkeys(("body_text_color_subdued_dark", "block_info_text_color_dark"), "*neutral_400"),
    **dict.fromkeys(("block_background_fill", "block_background_fill_dark"), "transparent"),
    **dict.fromkeys(("block_border_width", "block_border_width_dark", "block_padding"), "0px"),
    **dict.fromkeys(("block_title_text_color", "block_title_text_color_dark"), "*body_text_color"),
    **dict.fromkeys(("block_title_text_weight", "button_large_text_weight"), "560"),
    button_medium_text_weight="560",
    button_large_text_size="*text_md",
    input_background_fill="white",
    input_background_fill_dark="#151a26",
    input_border_width="1px",
    input_border_color=LINE,
    input_border_color_dark=NIGHT,
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_dark="*primary_500",
    button_primary_background_fill_hover_dark="*primary_400",
    **dict.fromkeys(
        ("button_secondary_background_fill", "checkbox_label_background_fill"), "white"
    ),
    button_secondary_background_fill_dark="transparent",
    button_secondary_background_fill_hover="*neutral_100",
    button_secondary_background_fill_hover_dark="#1a2030",
    button_secondary_border_color=LINE,
    button_secondary_border_color_dark=NIGHT,
    **dict.fromkeys(("button_border_width", "checkbox_label_border_width"), "1px"),
    checkbox_label_background_fill_dark="transparent",
    checkbox_label_border_color=LINE,
    checkbox_label_border_color_dark=NIGHT,
    checkbox_label_padding="5px 11px",
)
