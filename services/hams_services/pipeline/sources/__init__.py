"""Where frames come from; one module per kind, all blocking and called from a stream's thread.

a path, pypi:…, a folder, a pattern   files.py    ends, or fails where it is damaged
rtsp://…, rtsps://…                   rtsp.py     goes on for ever; reconnects
http://…, https://…                   mjpeg.py    goes on for ever; reconnects
camera:0, camera:/dev/video2          camera.py   goes on for ever; reconnects
push                                  applications send frames: see hams_services.pipeline.pushed
"""
