"""The direction of a head, from the points of a face mesh.

The model is a dozen vertices of mediapipe's canonical face (Apache-2.0,
https://github.com/google-ai-edge/mediapipe/blob/master/mediapipe/modules/face_geometry/data/canonical_face_model.obj),
chosen where a face is rigid: no jaw, no lips. The camera is not known, so a plain one is taken that looks straight at
the face from 60 cm: angles are those between head and line of sight.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

MESH_POINTS = 468
DISTANCE_CM = 60.0

_VERTICES = {
    1: (0.000000, -1.126865, 7.475604),  # tip of the nose
    6: (0.000000, 2.473255, 5.788627),  # bridge of the nose
    168: (0.000000, 3.271027, 5.236015),
    151: (0.000000, 6.545390, 5.027311),  # forehead
    33: (-4.445859, 2.663991, 3.173422),  # corners of the eyes, from the left in the image
    133: (-1.856432, 2.585245, 3.757904),
    362: (1.856432, 2.585245, 3.757904),
    263: (4.445859, 2.663991, 3.173422),
    129: (-1.785794, -0.978284, 4.850470),  # wings of the nose
    358: (1.785794, -0.978284, 4.850470),
    127: (-7.743095, 2.364999, -2.005167),  # temples
    356: (7.743095, 2.364999, -2.005167),
}
INDICES = np.array(list(_VERTICES))
MODEL = np.array(list(_VERTICES.values()))
"""K×3, cm: x to the right of an image of the face, y up, z towards the camera."""

FACING = np.diag([1.0, -1.0, -1.0])
"""Turns the model (y up, z to the camera) into camera axes (y down, z away) for a face that looks into the camera."""


def head_pose(points: NDArray[np.float64]) -> dict[str, float] | None:
    """Return ``{"yaw", "pitch", "roll"}`` in degrees from at least 468×2 mesh points in pixels; None if they have none.

    yaw > 0: looks to the image's right; pitch > 0: looks up; roll > 0: tilted clockwise in the image. The rotation is
    ``Rz(roll) Ry(-yaw) Rx(-pitch)`` in camera axes, so that turning the image changes roll only.
    """
    image = points[INDICES]
    centre = image.mean(axis=0)
    spread = float(np.linalg.norm(image - centre))
    if not math.isfinite(spread) or spread < 1e-3:
        return None
    focal = spread / float(np.linalg.norm(MODEL - MODEL.mean(axis=0))) * DISTANCE_CM
    camera = np.array([[focal, 0.0, 0.0], [0.0, focal, 0.0], [0.0, 0.0, 1.0]])
    try:
        good, vector, _ = cv2.solvePnP(MODEL, image - centre, camera, None, flags=cv2.SOLVEPNP_SQPNP)
    except cv2.error:
        return None
    if not good:
        return None
    rotation = cv2.Rodrigues(vector)[0] @ FACING
    yaw = -math.asin(max(-1.0, min(1.0, -rotation[2, 0])))
    pitch = -math.atan2(rotation[2, 1], rotation[2, 2])
    roll = math.atan2(rotation[1, 0], rotation[0, 0])
    return {name: round(math.degrees(v), 1) for name, v in (("yaw", yaw), ("pitch", pitch), ("roll", roll))}
