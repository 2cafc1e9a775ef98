"""LIBERO's vocabulary as data: every object and fixture category its tasks use, and every kind of scene.

The numbers are LIBERO's (objects: envs/objects/*.py; scenes: envs/problems/*.py and envs/arenas/style.py of hf-libero
0.1.4). Angles in radians, lengths in metres, quaternions (w, x, y, z).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

from handeye.sim.world import Articulation, Setting

Turns = tuple[tuple[str, float, float], ...]
"""Random turns of a placement, in the order in which they are drawn: (axis, low, high)."""

HALF_TURN: Turns = (("x", 0.0, 0.0),)
"""About z: the sampler reads the quaternion (x, y, z, w) = (0, 0, 0, 1) as (w, x, y, z)."""

UPRIGHT: Turns = (("x", pi / 2, pi / 2),)
SPUN: Turns = (("z", pi / 2, pi / 2),)
STANDING: Turns = (("x", pi / 2, pi / 2), ("z", pi / 2, pi / 2))
BOOK: Turns = (("x", -pi / 2, -pi / 4),)
MUG: Turns = (("x", -pi / 2, -pi / 2),)


@dataclass(frozen=True, kw_only=True)
class Category:
    """What all instances of a category share."""

    family: str
    """Folder of LIBERO's assets."""

    movable: bool = True
    rotation: Turns = ()
    articulation: Articulation | None = None

    def model(self, name: str) -> str:
        """Path below the assets."""
        return f"{self.family}/{name}.xml" if self.family == ARTICULATED else f"{self.family}/{name}/{name}.xml"


HOPE, SCANNED, SQUID = "stable_hope_objects", "stable_scanned_objects", "turbosquid_objects"
ARTICULATED = "articulated_objects"

DRAWERS = Articulation(
    open_range=(-0.16, -0.14), close_range=(0.0, 0.005), is_open=("<", -0.14), is_close=(">", 0.0)
)  # fmt: skip

CATEGORIES: dict[str, Category] = {
    "alphabet_soup": Category(family=HOPE, rotation=SPUN),
    "tomato_sauce": Category(family=HOPE, rotation=SPUN),
    "bbq_sauce": Category(family=HOPE, rotation=UPRIGHT),
    "cookies": Category(family=HOPE, rotation=UPRIGHT),
    "butter": Category(family=HOPE, rotation=HALF_TURN),
    "chocolate_pudding": Category(family=HOPE, rotation=HALF_TURN),
    "cream_cheese": Category(family=HOPE, rotation=HALF_TURN),
    "ketchup": Category(family=HOPE, rotation=STANDING),
    "milk": Category(family=HOPE, rotation=STANDING),
    "orange_juice": Category(family=HOPE, rotation=STANDING),
    "salad_dressing": Category(family=HOPE, rotation=STANDING),
    "new_salad_dressing": Category(family=HOPE, rotation=STANDING),
    "akita_black_bowl": Category(family=SCANNED, rotation=UPRIGHT),
    "white_bowl": Category(family=SCANNED, rotation=UPRIGHT),
    "plate": Category(family=SCANNED, rotation=UPRIGHT),
    "basket": Category(family=SCANNED, rotation=UPRIGHT),
    "chefmate_8_frypan": Category(family=SCANNED, rotation=UPRIGHT),
    "glazed_rim_porcelain_ramekin": Category(family=SCANNED, rotation=UPRIGHT),
    "wooden_tray": Category(family=SQUID, rotation=HALF_TURN),
    "wine_bottle": Category(family=SQUID, rotation=HALF_TURN),
    "moka_pot": Category(family=SQUID, rotation=HALF_TURN),
    "black_book": Category(family=SQUID, rotation=BOOK),
    "yellow_book": Category(family=SQUID, rotation=BOOK),
    "red_coffee_mug": Category(family=SQUID, rotation=MUG),
    "porcelain_mug": Category(family=SQUID, rotation=MUG),
    "white_yellow_mug": Category(family=SQUID, rotation=MUG),
    "wine_rack": Category(family=SQUID, movable=False),
    "wooden_two_layer_shelf": Category(family=SQUID, movable=False),
    "desk_caddy": Category(family=SQUID, movable=False),
    "wooden_cabinet": Category(family=ARTICULATED, movable=False, articulation=DRAWERS),
    "white_cabinet": Category(family=ARTICULATED, movable=False, articulation=DRAWERS),
    "flat_stove": Category(
        family=ARTICULATED,
        movable=False,
        articulation=Articulation(
            turnon_range=(0.5, 2.1), turnoff_range=(-0.005, 0.0), is_on=(">=", 0.5), is_off=("<", 0.0)
        ),
    ),
    "microwave": Category(
        family=ARTICULATED,
        movable=False,
        articulation=Articulation(
            open_range=(-2.094, -1.3), close_range=(-0.005, 0.0), is_open=("<", -1.3), is_close=(">", -0.005)
        ),
    ),
}
"""How high and wide each is for the placement sampler stands in its model (the sites of `compose.OFFSETS`)."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One pose that a kind of scene gives a camera, or adds."""

    name: str
    position: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a problem class decides: arena, style, cameras, where the robot stands."""

    arena_file: str
    arena_body: str
    """Its areas become sites of this body."""

    floor: str
    wall: str
    """Textures, below the assets' textures/."""

    mounted: bool
    """On a pedestal, else on the ground."""

    base: tuple[float, float, float]
    """Of the robot."""

    setting: Setting
    area_offset: tuple[float, float, float]
    """Added to the middle of an area's rectangle to get its site."""

    cameras: tuple[Camera, ...]
    table_friction: str | None = None
    """Where the table is made to measure (1.0 x 1.2 x 0.05 m): its sliding, turning and rolling friction."""


AGENT = (0.6380177736282349, 0.3048497438430786, 0.30484986305236816, 0.6380177736282349)
LOW_AGENT = (0.6182166934013367, 0.3432307541370392, 0.3432314395904541, 0.6182177066802979)
FRONT = (0.56, 0.43, 0.43, 0.56)
PAPER = (0.513, 0.353, 0.443, 0.645)
GALLERY = Camera(
    name="galleryview",
    position=(2.844547668904445, 2.1279684793440667, 3.128616846013882),
    quaternion=(0.42261379957199097, 0.23374411463737488, 0.41646939516067505, 0.7702690958976746),
)
HIGH_AGENT_VIEW = Camera(
    name="agentview", position=(0.6586131746834771, 0.0, 1.6103500240372423), quaternion=AGENT
)  # fmt: skip
HIGH_FRONT_VIEW = Camera(name="frontview", position=(1.0, 0.0, 1.48), quaternion=FRONT)
HIGH_PAPER_VIEW = Camera(name="paperview", position=(2.1, 0.535, 2.075), quaternion=PAPER)

KINDS: dict[str, Kind] = {
    "libero_tabletop_manipulation": Kind(
        arena_file="scenes/libero_tabletop_base_style.xml",
        arena_body="table",
        floor="light-gray-floor-tile.png",
        wall="light-gray-plaster.png",
        mounted=True,
        base=(-0.66, 0.0, 0.912),
        setting=Setting(
            workspace=(0.0, 0.0, 0.90), fixture_height=0.01 - 0.05, shrink_by_radius=True, arena="main_table"
        ),
        area_offset=(0.0, 0.0, 0.02),
        cameras=(HIGH_AGENT_VIEW, HIGH_FRONT_VIEW, GALLERY),
        table_friction="0.6 0.005 0.0001",
    ),
    "libero_kitchen_tabletop_manipulation": Kind(
        arena_file="scenes/libero_kitchen_tabletop_base_style.xml",
        arena_body="table",
        floor="gray_ceramic_tile.png",
        wall="yellow_linen_wall_texture.png",
        mounted=True,
        base=(-0.66, 0.0, 0.912),
        setting=Setting(
            workspace=(0.0, 0.0, 0.90), fixture_height=0.01 - 0.05, shrink_by_radius=False, arena="kitchen_table"
        ),
        area_offset=(0.0, 0.0, 0.0),
        cameras=(HIGH_AGENT_VIEW, HIGH_FRONT_VIEW, GALLERY, HIGH_PAPER_VIEW),
        table_friction="1 0.005 0.0001",
    ),
    "libero_study_tabletop_manipulation": Kind(
        arena_file="scenes/libero_study_base_style.xml",
        arena_body="study_table",
        floor="light-gray-floor-tile.png",
        wall="light-gray-plaster.png",
        mounted=True,
        base=(-0.25 - 0.5, 0.0, 0.912),
        setting=Setting(
            workspace=(-0.2, 0.0, 0.867), fixture_height=0.01 - 0.05, shrink_by_radius=False, arena="study_table"
        ),
        area_offset=(-0.2, 0.0, 0.867),
        cameras=(
            Camera(name="agentview", position=(0.4586131746834771, 0.0, 1.6103500240372423), quaternion=AGENT),
            HIGH_FRONT_VIEW,
            GALLERY,
            HIGH_PAPER_VIEW,
        ),
    ),
    "libero_living_room_tabletop_manipulation": Kind(
        arena_file="scenes/libero_living_room_tabletop_base_style.xml",
        arena_body="living_room_table",
        floor="seamless_wood_planks_floor.png",
        wall="light-gray-plaster.png",
        mounted=False,
        base=(-0.16 - 0.35, 0.0, 0.42),
        setting=Setting(
            workspace=(0.0, 0.0, 0.41), fixture_height=0.01 - 0.024, shrink_by_radius=False, arena="living_room_table"
        ),
        area_offset=(0.0, 0.0, 0.41),
        cameras=(
            Camera(name="agentview", position=(0.6065773716836134, 0.0, 0.96), quaternion=LOW_AGENT),
            Camera(name="frontview", position=(1.5, 0.0, 0.9), quaternion=FRONT),
            GALLERY,
            Camera(name="paperview", position=(2.1, 0.735, 1.875), quaternion=PAPER),
        ),
    ),
    "libero_floor_manipulation": Kind(
        arena_file="scenes/libero_floor_base_style.xml",
        arena_body="floor",
        floor="light-gray-floor-tile.png",
        wall="light-gray-plaster.png",
        mounted=False,
        base=(-0.6, 0.0, 0.0),
        setting=Setting(workspace=(0.0, 0.0, -0.035), fixture_height=-0.025, shrink_by_radius=True, arena="floor"),
        area_offset=(0.0, 0.0, 0.02),
        cameras=(
            Camera(name="agentview", position=(0.8965773716836134, 5.216182733499864e-07, 0.65), quaternion=LOW_AGENT),
            Camera(name="frontview", position=(1.0, 0.0, 0.65), quaternion=FRONT),
            GALLERY,
        ),
    ),
}
"""Problem class -> kind. LIBERO has a sixth, the coffee table, which none of its 130 tasks uses."""
