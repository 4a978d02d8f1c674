"""What the app asks `spaces` about where it is."""


class Config:
    zero_gpu = True
