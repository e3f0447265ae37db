"""True poses shown as a model's are: through the live schedule, at an output rate.

A model's motion is measured as the live run shows it, on the curve through its 15 poses a second.
What it is compared with must take the same way, or the curve would count as a difference.
"""

from __future__ import annotations

import numpy as np

from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.joint_limits import limit
from ha2g_live.realtime.retarget import to_directions
from ha2g_live.realtime.schedule import PoseSchedule
from ha2g_live.realtime.skeleton import BONE_COUNT, normalise
from ha2g_live.realtime.timebase import FRAMES_AHEAD, POSE_FPS
from ha2g_live.realtime.types import F32, PoseChunk

MEASURED_FPS = 60.0
"""Rate at which motion is made for measuring: that of a live run. At a lower one the schedule joins
its predictions more coarsely, and jerk comes out higher than what is shown live."""


def at_fps(directions: F32, fps: float = MEASURED_FPS) -> F32:
    """Poses at 15 Hz as the live schedule shows them.

    Args:
        directions: (n, 42, 3) unit vectors; frame ``i`` is at ``i / 15`` seconds.
        fps: output frames a second.

    Returns:
        (frames, 42, 3) float32; frame ``i`` is at ``i / fps``.

    Raises:
        ConfigError: there is no pose, or ``fps`` is not positive.
    """
    if len(directions) == 0 or fps <= 0:
        raise ConfigError(
            f"motion of {len(directions)} poses cannot be shown at {fps:g} frames a second: "
            "give at least one pose and a rate above zero"
        )
    poses = normalise(np.asarray(directions, dtype=np.float32))
    frames = int(len(poses) / POSE_FPS * fps)
    shown = np.empty((frames, BONE_COUNT, 3), dtype=np.float32)
    schedule = PoseSchedule()
    schedule.merge(PoseChunk(0, poses[: FRAMES_AHEAD + 1], 0, 0.0, 0.0))
    step = 0
    for frame in range(frames):
        now = frame / fps
        while (step + 1) / POSE_FPS <= now:
            step += 1
            ahead = poses[step + 1 : step + 1 + FRAMES_AHEAD]
            if len(ahead):
                schedule.merge(PoseChunk(step + 1, ahead, 0, 0.0, 0.0))
        shown[frame] = to_directions(limit(schedule.sample(now).rotations))
    return shown
