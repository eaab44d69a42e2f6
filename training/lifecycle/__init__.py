"""After training: what a model must pass before it serves. `gate_file` says what is demanded, `gate` measures it."""
