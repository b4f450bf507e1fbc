"""Tracking: cost per frame, IDF1 and MOTA beside another ByteTrack, agreement of cadences."""
