"""Whether it worked: encoders, prompts, figures, the report and its drawings."""
