"""Images that stay in the archive: fetched when a reader looks at them. In: how a file was read; out: its words.

Open `archive_pixels` first.
"""
