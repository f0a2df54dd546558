"""Renderers: one file per kind. Each turns draws of chance into an encoded image and the text that is right."""
