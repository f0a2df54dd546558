"""`python -m data_engine look=DIR`: one HTML page on which a person sees what a dataset teaches.

page.py          which samples, what is counted, the page itself
labels.py        a response shown as what it says: boxes, a table, a figure, a molecule
histograms.py    distributions as small drawings
"""
