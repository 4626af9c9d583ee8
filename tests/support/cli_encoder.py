"""The encoder of the tests of commands."""

#: Without weights of its own: what it sees is arbitrary, but always the same.
ENCODER = ("--encoder", "tiny-imagenet", "--encoder-weights", "random", "--layer", "block5")
