"""The page: what a visitor sees and does, in Gradio.

The only part of the package that imports gradio and spaces; no other part imports it back.
`html` is what is said, `loaded` what takes seconds and is waited for, `session` who is there, `gpu`
what runs on the GPU; then a file for each part of the page. `app.py` puts them together.
"""
