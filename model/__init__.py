"""The architecture of DeepSeek-OCR in plain PyTorch: one process, no process group, no configuration tool.

The public way in:

    import model
    ocr = model.load("path/to/checkpoint", dtype=torch.bfloat16)
    model.save(ocr, "path/to/copy")
"""

from .config import DeepseekOCRConfig
from .convert import load, save
from .deepseek_ocr import DeepseekOCR

__all__ = ["DeepseekOCR", "DeepseekOCRConfig", "load", "save"]
