"""Turns predictions into numbers and pictures: predict, score, report; each step resumes and runs alone.

`python -m evaluation checkpoint=DIR data=HELDOUT out=DIR` does all three;
`python -m evaluation read=page.png checkpoint=DIR` reads one page.
"""
