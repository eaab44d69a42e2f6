"""What a cohort folder holds, before anything is trained: `consilium check`."""
