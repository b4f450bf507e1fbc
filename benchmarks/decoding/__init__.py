"""CPU and memory of decoding 1080p streams into shared memory, against FFmpeg's own program."""
