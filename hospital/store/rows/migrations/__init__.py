"""How the store's tables came to be, a file a step in `versions/`. There is no way back: nothing is dropped."""
