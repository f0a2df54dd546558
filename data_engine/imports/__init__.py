"""`python -m data_engine import=...`: the user's own data, copied into shards of ours.

options.py       what a user may set
records.py       one record of the user's data -> samples, or why not: the documented form
pictures.py      the images of a record: bytes as they are, or converted without loss
parts.py         text files as rows of lines or pieces that any process finds again
coco.py          COCO captions, detection and grounding as lines of the documented form
parquet.py       Parquet files, as the hub has them
source.py        what lies at a path: which format, which fields
job.py           the shards
"""
