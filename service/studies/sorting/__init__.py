"""By what a worklist is sorted and filtered though it lies sealed. In: rows; out: facts, each unsealed once a process.

Open `opened_facts` first.
"""
