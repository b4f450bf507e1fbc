"""Where frames come from; one module per kind, all blocking and called from a stream's thread.

a path, pypi:…, a folder, a pattern   files.py    ends, or fails where it is damaged
rtsp://…, rtsps://…                   rtsp.py     endless; reconnects
http://…, https://…                   mjpeg.py    endless; reconnects
camera:0, camera:/dev/video2          camera.py   endless; reconnects
push                                  applications send frames to hams_services.pipeline.service
"""
