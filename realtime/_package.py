"""ha2g-live: a voice moves an avatar's arms, hands, fingers, head and torso, live."""

__version__ = "0.1.0"
