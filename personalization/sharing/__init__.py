"""The Hub: the only folder that speaks to it, or sees a token."""
