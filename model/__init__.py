"""The architecture of DeepSeek-OCR in plain PyTorch: one process, no process group, no configuration tool."""
