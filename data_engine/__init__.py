"""The data engine: makes samples, writes them into shards, reads them back. No torch, no GPU.

A sample is a pure function of (seed, kind, index), so any shard can be made again alone, anywhere, byte for
byte. ENGINE_VERSION changes whenever that function does.
"""

ENGINE_VERSION = 4
