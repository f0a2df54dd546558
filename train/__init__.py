"""Both training stages: reads shards, packs, cuts the model into pipeline stages, trains and saves."""
