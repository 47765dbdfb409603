"""Readers of captioned data: files, Hugging Face data sets, webdataset shards."""
