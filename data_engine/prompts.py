"""The paper's prompts (arXiv 2510.18234, section 3.4 and the released demo), word for word.

The prompt tells the model which of several right answers is wanted: the same page is answered with plain
text after FREE_OCR and with boxes and headings after DOCUMENT_TO_MARKDOWN.
"""

from __future__ import annotations

FREE_OCR = "<image>\nFree OCR."
"""Coarse reading: the text alone."""
DOCUMENT_TO_MARKDOWN = "<image>\n<|grounding|>Convert the document to markdown."
"""Fine reading of a document: blocks with label, box and Markdown content."""
IMAGE_OCR_WITH_BOXES = "<image>\n<|grounding|>OCR this image."
"""Fine reading of any other image: text lines with boxes."""
PARSE_FIGURE = "<image>\nParse the figure."
"""OCR 2.0: a chart to an HTML table, a molecule to SMILES, a plane figure to its dictionary."""
CHART_TO_DICTIONARY = "<image>\nConvert the key information of the chart to a python dict:"
"""A chart to OneChart's dictionary: that project's prompt, not one of the paper's."""
DESCRIBE_IMAGE = "<image>\nDescribe this image in detail."
"""Caption."""
DETECT_ALL = "<image>\nIdentify all objects in the image and output them in bounding boxes."
"""Detection."""


def locate(phrase: str) -> str:
    """Grounding: where in the image is `phrase`?"""
    return f"<image>\nLocate <|ref|>{phrase}<|/ref|> in the image."
