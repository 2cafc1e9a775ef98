"""A Panda-shaped arm and parallel gripper from published numbers and primitive shapes: no meshes, nothing to download.

Kinematics: Denavit-Hartenberg parameters and joint limits of Franka Emika's control interface documentation. Masses
and inertias: Gaz et al., "Dynamic Identification of the Franka Emika Panda Robot With Retrieval of Feasible Parameters
Using Penalty-Based Optimization", RA-L 2019, as franka_description publishes them. Motors, servos, joint damping and
armature, the frames' names and the start pose are LIBERO's (facts 2.4), so one controller drives both robots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from handeye.sim.mjcf import Attributes, Number, add, element

Vector = tuple[Number, Number, Number]

DH = (  # a (m), d (m), alpha (rad) of joints 1..7, modified (Craig) convention
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -math.pi / 2),
    (0.0, 0.316, math.pi / 2),
    (0.0825, 0.0, math.pi / 2),
    (-0.0825, 0.384, -math.pi / 2),
    (0.0, 0.0, math.pi / 2),
    (0.088, 0.0, math.pi / 2),
)
FLANGE = 0.107  # joint 7 to flange (m)
LIMITS = (
    (-2.8973, 2.8973),
    (-1.7628, 1.7628),
    (-2.8973, 2.8973),
    (-3.0718, -0.0698),
    (-2.8973, 2.8973),
    (-0.0175, 3.7525),
    (-2.8973, 2.8973),
)
INERTIA = (  # mass (kg), centre of mass (m), Ixx Iyy Izz Ixy Ixz Iyz (kg m2) of links 1..7
    (4.970684, (0.003875, 0.002081, -0.04762), (0.70337, 0.70661, 0.009117, -0.000139, 0.006772, 0.019169)),
    (0.646926, (-0.003141, -0.02872, 0.003495), (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704)),
    (3.228604, (0.027518, 0.039252, -0.066502), (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805)),
    (3.587895, (-0.05317, 0.104419, 0.027454), (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641)),
    (1.225946, (-0.011953, 0.041065, -0.038437), (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229)),
    (1.666555, (0.060149, -0.014117, -0.010517), (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341)),
    (0.735522, (0.010517, -0.004252, 0.061597), (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741)),
)
CAPSULES: tuple[tuple[tuple[Vector, Vector, float, str], ...], ...] = (
    # What each link looks like, by eye: end points in the link's frame (m), radius (m), material.
    (((0, 0, -0.19), (0, 0, -0.02), 0.06, "shell"), ((0, -0.055, 0), (0, 0.055, 0), 0.06, "shell")),
    (((0, 0, 0), (0, -0.18, 0), 0.057, "shell"),),
    (((0, 0, -0.11), (0, 0, -0.03), 0.056, "trim"), ((0.02, 0, -0.01), (0.0825, 0, 0), 0.053, "shell")),
    (((0, 0, -0.05), (0, 0, 0.05), 0.05, "trim"), ((-0.01, 0.02, 0), (-0.0825, 0.1, 0), 0.052, "shell")),
    (((0, 0, -0.26), (0, 0.02, -0.16), 0.053, "shell"), ((0, 0.05, -0.15), (0, 0.03, -0.02), 0.045, "shell")),
    (((0, 0, -0.03), (0, 0, 0.03), 0.048, "trim"), ((0.03, 0, 0), (0.088, 0, 0), 0.045, "shell")),
    (((0, 0, 0.03), (0, 0, 0.07), 0.043, "trim"),),
)
ARM_DAMPING = (0.1,) * 5 + (0.01,) * 2
MOTOR_LIMITS = (80.0,) * 5 + (12.0,) * 2

GRIPPER_FRAME = 0.0970  # hand to grip site, between the finger tips (m): LIBERO's
FINGER_FRAME = 0.0524  # hand to finger joints (m)
INVISIBLE: Attributes = {"contype": 0, "conaffinity": 0, "group": 1}
"""Visual geoms: drawn, weightless, untouchable."""

PASSIVE: Attributes = {"contype": 0, "conaffinity": 1, "group": 0, "rgba": (0, 0.5, 0, 1)}
"""Collides with the table and with objects, not with the robot itself."""


def materials() -> list[Element]:
    looks = {"shell": (0.93, 0.93, 0.94, 1), "trim": (0.32, 0.34, 0.37, 1), "rubber": (0.12, 0.12, 0.13, 1)}
    return [element("material", name=name, rgba=rgba, specular=0.3, shininess=0.4) for name, rgba in looks.items()]


def robot(base: Sequence[float]) -> Element:
    """The arm's body tree, `robot0_base` first, gripper at the end, pedestal last (as in LIBERO)."""
    root = element("body", name="robot0_base", pos=base)
    link = add(root, "body", name="robot0_link0")
    add(link, "inertial", pos=(-0.041, 0, 0.05), mass=2.8, diaginertia=(0.01, 0.01, 0.01))  # immovable: never matters
    _cylinder(link, "robot0_link0_0", (-0.02, 0, 0.0), (-0.02, 0, 0.06), 0.085, "shell")
    _cylinder(link, "robot0_link0_1", (0, 0, 0.06), (0, 0, 0.15), 0.065, "shell")
    for number, (a, d, alpha) in enumerate(DH, start=1):
        link = add(
            link,
            "body",
            name=f"robot0_link{number}",
            pos=(a, -math.sin(alpha) * d, math.cos(alpha) * d),
            quat=(math.cos(alpha / 2), math.sin(alpha / 2), 0, 0),
        )
        _dynamics(link, number)
        for index, (start, end, radius, material) in enumerate(CAPSULES[number - 1]):
            shape: Attributes = {"kind": "capsule", "fromto": (*start, *end), "size": radius}
            name = f"robot0_link{number}_{index}"
            add(link, "geom", name=f"{name}_vis", material=material, **INVISIBLE, **shape)
            add(link, "geom", name=f"{name}_collision", **PASSIVE, **shape)
    link.append(hand())
    pedestal = add(root, "body", name="mount0_base", pos=(0, 0, 0.01))
    add(pedestal, "geom", name="mount0_pedestal_vis", kind="cylinder", size=(0.11, 0.455), pos=(-0.02, 0, -0.467),
        material="rubber", **INVISIBLE)  # fmt: skip
    add(pedestal, "geom", name="mount0_foot_vis", kind="box", size=(0.25, 0.25, 0.02), pos=(-0.02, 0, -0.9),
        material="rubber", **INVISIBLE)  # fmt: skip
    return root


def _dynamics(link: Element, number: int) -> None:
    mass, centre, inertia = INERTIA[number - 1]
    add(link, "inertial", pos=centre, mass=mass, fullinertia=inertia)
    add(link, "joint", name=f"robot0_joint{number}", axis=(0, 0, 1), limited="true", range=LIMITS[number - 1],
        damping=ARM_DAMPING[number - 1], frictionloss=0.1, armature=5 / number)  # fmt: skip


def _cylinder(body: Element, name: str, start: Vector, end: Vector, radius: float, material: str) -> None:
    shape: Attributes = {"kind": "cylinder", "fromto": (*start, *end), "size": radius}
    add(body, "geom", name=f"{name}_vis", material=material, **INVISIBLE, **shape)
    add(body, "geom", name=f"{name}_collision", **PASSIVE, **shape)


def hand() -> Element:
    """From the flange on: hand, camera, grip site, two fingers whose pads hold by friction."""
    eighth, quarter = math.pi / 8, math.pi / 4
    root = element("body", name="robot0_right_hand", pos=(0, 0, FLANGE),
                   quat=(math.cos(eighth), 0, 0, -math.sin(eighth)))  # fmt: skip
    add(root, "inertial", pos=(-0.01, 0, 0.03), mass=0.73, diaginertia=(0.001, 0.0025, 0.0017))  # franka_description
    add(root, "camera", mode="fixed", name="robot0_eye_in_hand", pos=(0.05, 0, 0), quat=(0, 0.707108, 0.707108, 0),
        fovy=75)  # fmt: skip
    gripper = add(root, "body", name="gripper0_right_gripper", quat=(math.cos(quarter), 0, 0, -math.sin(quarter)))
    add(gripper, "inertial", pos=(0, 0, 0.05), mass=0.1, diaginertia=(0.0001, 0.0001, 0.0001))
    add(gripper, "site", name="gripper0_ft_frame", size=0.01, rgba=(1, 0, 0, 0), group=1)
    # The hand's long side lies along the fingers' travel: x of this frame, y of the hand's.
    palm: Attributes = {"kind": "box", "size": (0.1, 0.03, 0.025), "pos": (0, 0, 0.035)}
    for index, (thick, low, high) in enumerate(((0.027, 0.01, 0.04), (0.018, 0.04, 0.06))):  # the camera sees past it
        add(gripper, "geom", name=f"gripper0_hand{index}_visual", material="shell", kind="box",
            size=(0.1, thick, (high - low) / 2), pos=(0, 0, (high + low) / 2), **INVISIBLE)  # fmt: skip
    add(gripper, "geom", name="gripper0_hand_collision", **PASSIVE, **palm)
    eef = add(gripper, "body", name="gripper0_eef", pos=(0, 0, GRIPPER_FRAME))
    add(eef, "site", name="gripper0_grip_site", size=0.01, rgba=(1, 0, 0, 0), group=1)
    for number, (side, sign) in enumerate((("left", 1), ("right", -1)), start=1):
        _finger(gripper, number, side, sign)
    return root


def _finger(gripper: Element, number: int, side: str, sign: int) -> None:
    body = add(gripper, "body", name=f"gripper0_{side}finger", pos=(0, 0, FINGER_FRAME),
               quat=(math.sqrt(0.5), 0, 0, math.sqrt(0.5)))  # fmt: skip
    add(body, "inertial", pos=(0, 0.01 * sign, 0.03), mass=0.1, diaginertia=(0.0001, 0.0001, 0.0001))
    add(body, "joint", name=f"gripper0_finger_joint{number}", kind="slide", axis=(0, 1, 0), limited="true",
        range=(0.0, 0.04) if sign > 0 else (-0.04, 0.0), damping=100, armature=1, frictionloss=1)  # fmt: skip
    # Inner face 0.5 mm past the middle when shut, tips 9.2 mm past the grip site: LIBERO's finger, so grasps fit both.
    arm: Attributes = {"kind": "box", "size": (0.009, 0.008, 0.0165), "pos": (0, 0.0125 * sign, 0.0165)}
    tip: Attributes = {"kind": "box", "size": (0.009, 0.005, 0.0104), "pos": (0, 0.0045 * sign, 0.0434)}
    add(body, "geom", name=f"gripper0_finger{number}_visual", material="trim", **INVISIBLE, **arm)
    add(body, "geom", name=f"gripper0_finger{number}_tip_visual", material="rubber", **INVISIBLE, **tip)
    add(body, "geom", name=f"gripper0_finger{number}_collision", **PASSIVE, **arm)
    # As LIBERO's pads: friction wins over an object's own, so what is held stays held.
    add(body, "geom", name=f"gripper0_finger{number}_pad_collision", solref=(0.01, 0.5), friction=(2, 0.05, 0.0001),
        condim=4, group=0, rgba=(0, 0, 0.5, 1), **tip)  # fmt: skip


def actuators() -> list[Element]:
    """Seven torque motors, then one position servo per finger: LIBERO's, by name and number."""
    motors = [
        element("motor", name=f"robot0_torq_j{i}", joint=f"robot0_joint{i}", ctrllimited="true", ctrlrange=(-top, top))
        for i, top in enumerate(MOTOR_LIMITS, start=1)
    ]
    servos = [
        element(
            "position",
            name=f"gripper0_gripper_finger_joint{i}",
            joint=f"gripper0_finger_joint{i}",
            kp=1000,
            ctrllimited="true",
            ctrlrange=span,
            forcelimited="true",
            forcerange=(-20, 20),
        )
        for i, span in enumerate(((0.0, 0.04), (-0.04, 0.0)), start=1)
    ]
    return motors + servos
