"""What training minimises: a weighted sum of objectives, each in a module that declares what it reads.

Labels that are not known take no part, and no class is weighted: weights would tear the probabilities from the
frequencies (Van den Goorbergh et al., JAMIA 2022). Open `losses` first: it has the table of all objectives.
"""
