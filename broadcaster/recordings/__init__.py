"""Recordings and clips in the bucket: playlists, pictures, files, and what the operator does with them."""
