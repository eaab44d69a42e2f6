"""How the tables of the record came to be, a file a step in `versions/`. There is no way back: nothing is dropped."""
