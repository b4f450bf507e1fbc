"""Where frames come from; one module per kind, all blocking and called from a stream's thread (reader.py).

a video: a path, pypi:…        files.py        ends, or fails where it is damaged
an image, a folder, a pattern  image_files.py  ends
rtsp://…, http://…             network.py      endless; reconnects
camera:0, camera:NAME          camera.py       endless; reconnects
a camera's two streams         paired.py       endless; reconnects
push                           applications send frames to hams_services.pipeline.service

All video is decoded by media.py.
"""
