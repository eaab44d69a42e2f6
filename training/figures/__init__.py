"""How an evaluation is shown: figures, terminal tables, files. Open `evaluation_files` first."""
