"""The model while it serves. `engine` walks from a form to an answer; open it first."""
